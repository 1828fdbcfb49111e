"""Run a server whose detector never returns: `python stuck_server.py WORKERS DRAIN`."""

import sys
import time
from dataclasses import dataclass, field

import numpy as np

from mien.server import processes
from mien.server.settings import Settings, Times
from mien.vision.detectors import CropTransform, Detection


@dataclass
class StuckDetector:
    """A detector that finds nothing when the server warms up, and never ends after that."""

    name: str = "stuck"
    crop: CropTransform = field(default_factory=lambda: CropTransform(0.0, 0.0, 1.0))

    def find(self, image: object, *, smallest: int) -> list[Detection]:
        if np.asarray(image).any():
            time.sleep(3600)
        return []


if __name__ == "__main__":
    processes.serve(
        "fast",
        detector=StuckDetector(),
        port=0,
        workers=int(sys.argv[1]),
        settings=Settings(times=Times(drain=float(sys.argv[2]))),
        on_start=lambda url: print(url, flush=True),
    )
    processes.leave()
