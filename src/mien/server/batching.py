"""Micro-batches: one thread computes everything that has queued up, without waiting for more.

A wait would make answers slower (measured: docs/serve.md). Work that arrives while a batch is computed forms
the next one, so batches grow with the load. Answers do not depend on the batch.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class _Job(Generic[T, R]):
    key: Hashable
    items: Sequence[T]
    future: "asyncio.Future[list[R]]"


class Batcher(Generic[T, R]):
    """A thread that computes jobs in batches.

    Args:
        compute: Called in the thread with a key and the items of all jobs with this key; returns a result for
            each item. An error that it raises is raised for each of these jobs.
        name: Name of the thread.
        most: Items of a batch from which no other job is added to it.
        on_batch: Called in the thread with the number of items of each batch.
    """

    def __init__(
        self,
        compute: Callable[[Any, list[T]], list[R]],
        name: str,
        *,
        most: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute, self._most, self._on_batch = compute, most, on_batch
        #: None ends the thread.
        self._jobs: SimpleQueue[_Job[T, R] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the jobs in the queue, of which those that are cancelled are not computed."""
        self._jobs.put(None)

    async def run(self, key: Hashable, items: Sequence[T]) -> list[R]:
        """Return the result of each item; a job that is cancelled before its batch starts is not computed."""
        future: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(key, items, future))
        return await future

    def _run(self) -> None:
        job = self._jobs.get()
        while job is not None:
            jobs, after = self._batch(job)
            if waiting := [each for each in jobs if not each.future.cancelled()]:
                self._answer(waiting)
            job = after[0] if after else self._jobs.get()

    def _batch(self, first: _Job[T, R]) -> tuple[list[_Job[T, R]], list[_Job[T, R] | None]]:
        """Return the queued jobs of the batch that begins with `first`, and the next one if it was taken."""
        jobs, size = [first], len(first.items)
        while size < self._most:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None or job.key != first.key:
                return jobs, [job]
            jobs.append(job)
            size += len(job.items)
        return jobs, []

    def _answer(self, jobs: list[_Job[T, R]]) -> None:
        items = [item for job in jobs for item in job.items]
        self._on_batch(len(items))
        outcome: list[R] | Exception
        try:
            outcome = self._compute(jobs[0].key, items)
        except Exception as error:
            outcome = error
        try:
            jobs[0].future.get_loop().call_soon_threadsafe(_deliver, jobs, outcome)
        except RuntimeError:  # the loop is closed, so nobody waits any more
            return


def _deliver(jobs: Sequence[_Job[T, R]], outcome: list[R] | Exception) -> None:
    place = 0
    for job in jobs:
        end = place + len(job.items)
        if not job.future.done():
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome[place:end])
        place = end
