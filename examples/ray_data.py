"""Predict a folder of photos with Ray Data, if you have a Ray cluster, and write Parquet files to a folder.

python examples/ray_data.py photos/ predictions/
"""

import os
import sys
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
        columns = mien.Prediction.columns(self.predictor.names)
        schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in columns.items()])
        return pyarrow.Table.from_pylist(rows, schema=schema)


# On a cluster: ray.init("auto"). Ray has no password and listens on all interfaces, even with an address;
# docs/guides/many-machines.md has a command that gives it a network of its own.
ray.init(num_cpus=max(2, os.cpu_count()), include_dashboard=False, _node_ip_address="127.0.0.1")
# One CPU stays free for reading and writing; if actors take all of them, Ray waits without an error.
actors = ray.data.ActorPoolStrategy(size=int(ray.cluster_resources()["CPU"]) - 1)
files = [str(Path(file).absolute()) for file in image_files.find([sys.argv[1]])]
faces = ray.data.from_items(files).repartition(target_num_rows_per_block=32)
faces = faces.map_batches(Predict, batch_size=32, num_cpus=1, compute=actors)
faces.write_parquet(str(Path(sys.argv[2]).absolute()))
