"""Dynamic batching: what waits while a batch is computed becomes the next batch.

A request that finds the model idle is computed at once, together with what else the event loop has read in the same
turn; nothing waits to fill a batch, unless ``max_delay_s`` asks for it.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from cocorrrec_export.serving.errors import Refusal, busy
from cocorrrec_export.serving.extensions import Statistics
from cocorrrec_export.serving.metrics import Metrics
from cocorrrec_export.serving.protocol import Array

Compute = Callable[[Array], dict[str, Array]]
"""``H [N, L, D]`` to outputs ``[N, ...]``; called in one thread of its own."""


BATCHES_AHEAD = 8


class Job:
    """One request in the queue."""

    __slots__ = ("H", "compute_s", "enqueued", "future", "queue_s", "users")

    def __init__(self, H: Array, future: "asyncio.Future[dict[str, Array]]") -> None:
        self.H = H
        self.users = len(H)
        self.future = future
        self.enqueued = time.perf_counter()
        self.queue_s = 0.0
        self.compute_s = 0.0


class Batcher:
    """Joins requests into batches, in the order in which they came, and computes one batch at a time.

    Args:
        compute: the model.
        metrics: told of batches and times.
        max_batch: users of one batch; a request may have as many.
        max_queue: users that may wait.
        max_delay_s: how long a batch that is not full waits for more, from its first request on.
        statistics: told of batches too.
    """

    def __init__(
        self,
        compute: Compute,
        metrics: Metrics,
        *,
        max_batch: int,
        max_queue: int,
        max_delay_s: float = 0.0,
        statistics: Statistics | None = None,
    ) -> None:
        self._statistics = statistics or Statistics()
        self._compute = compute
        self._metrics = metrics
        self.max_batch = max_batch
        self._max_queue = max_queue
        self._max_delay_s = max_delay_s
        self._waiting: deque[Job] = deque()
        self._waiting_users = 0
        self._handed_over = 0
        self._timer: asyncio.Handle | None = None
        self._work: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def full(self) -> bool:
        """Whether the queue takes no further user."""
        return self._waiting_users >= self._max_queue

    @property
    def waiting_users(self) -> int:
        """Users in the queue."""
        return self._waiting_users

    @property
    def makes_wait(self) -> bool:
        """Whether a job that is submitted now has to wait: for the batch before it, or for company."""
        return self._handed_over > 0 or self._max_delay_s > 0

    def start(self) -> None:
        """Start the thread that computes; from the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread when what was handed to it is done."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
            self._thread = None

    def submit(self, H: Array) -> Job:
        """Queue a request; its ``future`` gets the outputs. Cancel the future to take the request back.

        Raises:
            Refusal: 503, the queue is full.
        """
        assert self._loop is not None, "start() first"
        # A request that finds an empty queue is taken even if it is larger than the queue.
        if self._waiting and self._waiting_users + len(H) > self._max_queue:
            raise busy(f"{self._waiting_users} users are waiting, the limit is {self._max_queue}: come again later")
        job = Job(H, self._loop.create_future())
        self._waiting.append(job)
        self._waiting_users += job.users
        if self._may_start:
            self._schedule()
        return job

    @property
    def _may_start(self) -> bool:
        """A batch starts when the model is idle; full ones go ahead, since waiting would not make them larger.

        Under overload a turn of the loop is long: the model must not wait for the next one after each batch.
        """
        full = self._waiting_users >= self.max_batch and self._handed_over < BATCHES_AHEAD
        return full or (self._handed_over == 0 and bool(self._waiting))

    def _schedule(self) -> None:
        """See to it that a batch starts: now, if it is full, or when its first request has waited long enough."""
        assert self._loop is not None
        if self._waiting_users >= self.max_batch or not self._max_delay_s:
            if self._timer is not None and self._max_delay_s:
                self._timer.cancel()
                self._timer = None
            if self._timer is None:
                # After everything else that is ready: the rest of this turn's requests join the batch.
                self._timer = self._loop.call_soon(self._start_batch)
        elif self._timer is None:
            waited = time.perf_counter() - self._waiting[0].enqueued
            self._timer = self._loop.call_later(max(0.0, self._max_delay_s - waited), self._start_batch)

    def _start_batch(self) -> None:
        self._timer = None
        jobs, users = [], 0
        while self._waiting and users + self._waiting[0].users <= self.max_batch:
            job = self._waiting.popleft()
            self._waiting_users -= job.users
            if job.future.cancelled():  # its client has gone
                self._metrics.dropped.inc()
                continue
            jobs.append(job)
            users += job.users
        if not jobs:
            return
        self._handed_over += 1
        now = time.perf_counter()
        for job in jobs:
            job.queue_s = now - job.enqueued
        self._work.put(jobs)
        if self._may_start:
            self._start_batch()

    def _run(self) -> None:
        """The thread: compute, hand back."""
        assert self._loop is not None
        while (jobs := self._work.get()) is not None:
            start = time.perf_counter()
            # Here and not where a request is parsed: one look at a batch is cheaper than one at each request.
            H, finite = _join(jobs), jobs
            if not np.isfinite(H).all():
                finite = [job for job in jobs if np.isfinite(job.H).all()]
                H = _join(finite) if finite else H[:0]
            outcome: dict[str, Array] | Exception = {}
            try:
                if finite:
                    outcome = self._compute(H)
            except Exception as error:  # whatever it is, the requests of this batch receive it, and the next batch runs
                outcome = error
            self._loop.call_soon_threadsafe(self._finish, jobs, finite, outcome, time.perf_counter() - start)

    def _finish(
        self, jobs: list[Job], finite: list[Job], outcome: dict[str, Array] | Exception, seconds: float
    ) -> None:
        self._handed_over -= 1
        if self._may_start:
            self._schedule()
        self._metrics.compute_time.observe(seconds)
        row = 0
        for job in finite:
            end = row + job.users
            job.compute_s = seconds
            if not job.future.done():
                if isinstance(outcome, Exception):
                    job.future.set_exception(outcome)
                else:
                    job.future.set_result({name: array[row:end] for name, array in outcome.items()})
            row = end
        self._metrics.batch_size.observe(row)
        if row:
            self._statistics.computed(row, seconds)
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(Refusal("the input holds a value that is not a finite float32"))


def _join(jobs: list[Job]) -> Array:
    return jobs[0].H if len(jobs) == 1 else np.concatenate([job.H for job in jobs])
