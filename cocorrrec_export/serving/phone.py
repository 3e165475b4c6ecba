"""The phone's side of the protocol: upload, continue, fuse the answer if it is there in time, else rank without it.

The upload is what the on-device model's ``encode`` gives (H), or, where the cloud answers with a vector, the ids of the
last clicks, as many as the cloud remembers.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.contract import HISTORY
from cocorrrec_export.errors import UsageError
from cocorrrec_export.runtime.base import Arrays, Runtime, narrowed, score_list
from cocorrrec_export.serving.client import Answer, ClientError, GcnClient

VECTOR = "vector"
"""What ``rank_corrected`` takes where the cloud answers with a vector."""


class State(Enum):
    """Where an exchange is.

    ``WAITING -> ANSWERED -> FUSED``, ``WAITING -> ALONE`` when nothing came, ``WAITING -> FAILED -> ALONE`` when an
    error came, ``ALONE -> LATE`` when the answer still comes, and ``LATE -> RERANKED`` when the app uses it after all.
    """

    WAITING = "waiting"
    ANSWERED = "answered"
    FAILED = "failed"
    FUSED = "fused"
    ALONE = "alone"
    LATE = "late"
    RERANKED = "reranked"


class Exchange:
    """One upload and what becomes of it: no clock, no network, so that any platform can copy it line by line."""

    def __init__(self) -> None:
        self.state = State.WAITING
        self._correction: Arrays | None = None

    def answer(self, correction: Arrays) -> None:
        """The answer is here."""
        if self.state is State.WAITING:
            self.state, self._correction = State.ANSWERED, correction
        elif self.state is State.ALONE:
            self.state, self._correction = State.LATE, correction

    def fail(self) -> None:
        """There will be no answer."""
        if self.state is State.WAITING:
            self.state = State.FAILED

    def take(self) -> Arrays | None:
        """The correction is needed now: it, or ``None`` to rank alone.

        Raises:
            RuntimeError: it has been asked for before.
        """
        if self.state not in (State.WAITING, State.ANSWERED, State.FAILED):
            raise RuntimeError(f"this exchange is over: {self.state.value}")
        correction, self._correction = self._correction, None
        self.state = State.ALONE if correction is None else State.FUSED
        return correction

    def take_late(self) -> Arrays | None:
        """The answer that came after the ranking, once; ``None`` where none has."""
        if self.state is not State.LATE:
            return None
        correction, self._correction = self._correction, None
        self.state = State.RERANKED
        return correction


@dataclass
class Counts:
    """What became of the exchanges of one phone."""

    sent: int = 0
    fused: int = 0
    alone: int = 0
    failed: int = 0
    """Of those alone: the cloud gave an error, or could not be reached."""
    late: int = 0
    """Of those alone: the answer came after all."""
    reranked: int = 0
    """Of those late: the list was ranked again with the answer."""


@dataclass(frozen=True)
class Ranking:
    """Scores of a candidate list."""

    scores: NDArray[np.float32]
    """``[n]``, in the order of the candidates."""
    corrected: bool
    """Whether the cloud's answer was there in time."""


class Phone:
    """An app's re-ranker: the exported SCN, and a client of the cloud.

    Args:
        scn: its runtime, with the entry points ``rank`` and ``rank_corrected``, and ``encode`` unless the cloud answers
            with a vector.
        client: an entered client; its own deadline is how long a late answer is waited for, to be counted.
        deadline_s: from the upload to the moment at which the correction is needed.
    """

    def __init__(self, scn: Runtime, client: GcnClient, *, deadline_s: float) -> None:
        self._scn = scn
        self._client = client
        self._deadline_s = deadline_s
        self._calls: set[asyncio.Task[None]] = set()
        self.counts = Counts()

    @property
    def takes_vector(self) -> bool:
        """Whether the cloud of this model answers with a vector, and reads the ids of more clicks than the phone."""
        return [spec.name for spec in self._scn.entry_points["rank_corrected"].inputs[2:]] == [VECTOR]

    def begin(self, ids: NDArray[np.int32], memory: NDArray[np.int32] | None = None) -> "Pending":
        """Send a history; returns at once. A history without clicks is not sent: there is nothing in it.

        Args:
            ids: ``[1, L]``, the last clicks, right-padded with 0.
            memory: ``[1, L_cloud]``, the same with older ones before them, for a cloud that answers with a vector.

        Raises:
            UsageError: the model's cloud reads a memory and none is given, or the other way round.
            CocorrrecError: ids that are none.
        """
        if self.takes_vector != (memory is not None):
            raise UsageError(
                "the cloud of this model answers with a vector: give the memory, its last clicks"
                if self.takes_vector
                else "the cloud of this model reads the upload of 'encode': give no memory"
            )
        if memory is not None:
            memory = narrowed("correct", HISTORY, memory)  # the server would refuse it, and the phone rank alone
        if not ids.any():
            exchange = Exchange()
            exchange.fail()
            return Pending(self, exchange, None, ids, time.perf_counter())
        upload = self._scn.run("encode", {"ids": ids})["H"].astype(np.float32, copy=False) if memory is None else memory
        exchange = Exchange()
        call = asyncio.ensure_future(self._call(exchange, upload))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        self.counts.sent += 1
        return Pending(self, exchange, call, ids, time.perf_counter() + self._deadline_s)

    async def rank(
        self, ids: NDArray[np.int32], candidates: NDArray[np.integer], memory: NDArray[np.int32] | None = None
    ) -> Ranking:
        """Send, wait until the deadline at the most, and rank; see :meth:`begin` and :meth:`Pending.rank`."""
        return await self.begin(ids, memory).rank(candidates)

    async def drain(self) -> None:
        """Wait for the answers that are still on their way, so that they are counted."""
        if self._calls:
            await asyncio.wait(self._calls)

    async def _call(self, exchange: Exchange, upload: NDArray[np.generic]) -> None:
        try:
            answer: Answer = await self._client.correct(upload)
        except ClientError:
            exchange.fail()
            return
        exchange.answer(dict(answer.tensors))
        if exchange.state is State.LATE:
            self.counts.late += 1

    def score(self, ids: NDArray[np.int32], candidates: NDArray[np.integer], correction: Arrays | None) -> Ranking:
        """Scores with a correction, or without one."""
        if correction is None:
            return Ranking(score_list(self._scn, "rank", {"ids": ids}, candidates), corrected=False)
        return Ranking(score_list(self._scn, "rank_corrected", {"ids": ids} | correction, candidates), corrected=True)


class Pending:
    """An exchange under way; :meth:`Phone.begin` makes one."""

    def __init__(
        self,
        phone: Phone,
        exchange: Exchange,
        call: "asyncio.Task[None] | None",
        ids: NDArray[np.int32],
        deadline: float,
    ) -> None:
        self._phone = phone
        self._exchange = exchange
        self._call = call
        self._ids = ids
        self._deadline = deadline

    async def rank(self, candidates: NDArray[np.integer]) -> Ranking:
        """Wait until the deadline at the most, fuse if the answer is there, and rank.

        Args:
            candidates: ``[n]`` item ids.
        """
        counts = self._phone.counts
        if self._call is not None:
            await asyncio.wait({self._call}, timeout=max(0.0, self._deadline - time.perf_counter()))
            counts.failed += self._exchange.state is State.FAILED
        correction = self._exchange.take()
        if correction is None:
            counts.alone += 1
        else:
            counts.fused += 1
        return self._phone.score(self._ids, candidates, correction)

    async def rerank(self, candidates: NDArray[np.integer]) -> Ranking | None:
        """After :meth:`rank` ranked alone: wait for the answer, and rank again with it; ``None`` where none came."""
        if self._call is not None:
            await asyncio.wait({self._call})
        correction = self._exchange.take_late()
        if correction is None:
            return None
        self._phone.counts.reranked += 1
        return self._phone.score(self._ids, candidates, correction)
