"""Calls that children of workers make, for `test_cluster_training.py`.

Each child imports this file, and not what the tests import.
"""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from mien.errors import DataError, Stopped


def note(*, sentence: str, on_progress: Any, on_note: Any) -> None:
    """Say a sentence."""
    print("what a library prints is not a message")
    on_progress("work", 1, 2)
    on_note(sentence)


def fail(*, on_progress: Any, on_note: Any) -> None:
    """Raise an error of mien."""
    raise DataError("the data are bad")


def crash(*, on_progress: Any, on_note: Any) -> None:
    """Raise another error."""
    raise RuntimeError("no memory on the device")


def die(*, log: Path, times: int, on_progress: Any, on_note: Any) -> None:
    """Die for some time as a process that the system kills, and then work."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(log.read_text().splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def stop_once(*, log: Path, on_progress: Any, on_note: Any) -> None:
    """Stop as after a signal for this process alone, and work the next time."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(log.read_text().splitlines()) == 1:
        raise Stopped("saved", signal.SIGTERM)


def wait(*, folder: Path, on_progress: Any, on_note: Any) -> None:
    """Wait for a signal, and save something then."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    (folder / f"begun-{os.getpid()}").touch()
    assert stopped.wait(120)
    time.sleep(0.5)
    (folder / f"saved-{os.getpid()}").touch()
    raise Stopped("saved", signal.SIGTERM)
