"""Predict a folder of photos with Ray Data, if you have a Ray cluster, and write Parquet files to a folder.

python examples/ray_data.py photos/ predictions/   # with a network of its own: docs/guides/many-machines.md
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
        found = self.predictor.images(list(map(str, batch["item"])))
        rows = [row for item in found if isinstance(item, mien.Prediction) for row in item.rows()]
        kinds = mien.Prediction.columns(self.predictor.names)
        fields = [(name, getattr(pyarrow, kind)()) for name, kind in kinds.items()]
        return pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(fields))


if len(sys.argv) != 3 or not Path(sys.argv[1]).is_dir():
    print(f"usage: ray_data.py FOLDER TO; these do not fit: {sys.argv[1:]}", file=sys.stderr)
    sys.exit(2)
files = [str(Path(file).absolute()) for file in image_files.find([sys.argv[1]])]
ray.init(num_cpus=max(2, os.cpu_count()), include_dashboard=False, _node_ip_address="127.0.0.1")
actors = ray.data.ActorPoolStrategy(size=int(ray.cluster_resources()["CPU"]) - 1)  # one CPU reads files
faces = ray.data.from_items(files).repartition(target_num_rows_per_block=32)
faces = faces.map_batches(Predict, batch_size=32, num_cpus=1, compute=actors)
faces.write_parquet(str(Path(sys.argv[2]).absolute()))
