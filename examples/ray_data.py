"""Predict a folder of photos with Ray Data, if you have a Ray cluster, and write Parquet files to a folder.

python examples/ray_data.py photos/ predictions/
"""

import argparse
import os
from pathlib import Path

import pyarrow
import ray

import mien
from mien.inference import image_files


class Predict:
    """Keep one predictor in each actor."""

    def __init__(self):
        self.predictor = mien.Predictor()

    def __call__(self, batch):
        """Return the rows of the faces of a batch of photos."""
        found = self.predictor.images([str(path) for path in batch["item"]])
        rows = [row for item in found if isinstance(item, mien.Prediction) for row in item.rows()]
        kinds = mien.Prediction.columns(self.predictor.names)
        schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in kinds.items()])
        return pyarrow.Table.from_pylist(rows, schema=schema)


parser = argparse.ArgumentParser(description="Predict a folder of photos with Ray Data.")
parser.add_argument("photos", help="a folder of photos")
parser.add_argument("to", help="a folder for the Parquet files")
options = parser.parse_args()
try:
    files = [str(Path(file).absolute()) for file in image_files.find([options.photos])]
except mien.MienError as error:
    parser.error(str(error))
# On a cluster: ray.init("auto"). Ray has no password and listens on all interfaces, even with an address;
# docs/guides/many-machines.md has a command that gives it a network of its own.
ray.init(num_cpus=max(2, os.cpu_count()), include_dashboard=False, _node_ip_address="127.0.0.1")
# One CPU stays free for reading and writing; if actors take all of them, Ray waits without an error.
actors = ray.data.ActorPoolStrategy(size=int(ray.cluster_resources()["CPU"]) - 1)
faces = ray.data.from_items(files).repartition(target_num_rows_per_block=32)
faces = faces.map_batches(Predict, batch_size=32, num_cpus=1, compute=actors)
faces.write_parquet(str(Path(options.to).absolute()))
