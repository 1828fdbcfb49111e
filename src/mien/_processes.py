"""Processor cores, signals, log levels, processes of mien alone, and those that Ctrl-C does not reach."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mien.errors import Stopped

_is_own = False


def claim_process() -> None:
    """State that this process runs nothing but mien, such as a command or its child process."""
    global _is_own
    _is_own = True


def is_own_process() -> bool:
    """Return whether this process runs nothing but mien. Others' code can share the process of a library."""
    return _is_own


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Make processes and threads that start here ignore Ctrl-C; only the main thread handles it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def log_level(name: str, level: int) -> Iterator[None]:
    """Set the level of a logger during the block.

    Args:
        name: The logger's name.
        level: Such as `logging.ERROR`.
    """
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


class StopRequest:
    """Whether a signal asked this process to stop.

    Attributes:
        number: The number of the signal; 0 if none came.
    """

    def __init__(self) -> None:
        self.number = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal."""
        self.number = number

    def check(self, saved: str) -> None:
        """Raise an error after a signal.

        Args:
            saved: What is saved, as the message says it.

        Raises:
            Stopped: A signal came.
        """
        if self.number:
            raise Stopped(f"stopped, and {saved}; continue with the same command", self.number)


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Listen for SIGINT and SIGTERM during the block; do nothing outside the main thread."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
