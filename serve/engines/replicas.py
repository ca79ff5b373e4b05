"""The backend of a model that several engines serve: here, elsewhere, or both.

A request goes to the engine that has its beginning cached (`serve.engines.affinity`), among those
that can answer now. Where none can, it waits for all of them and takes the first. A request that
was lost on one before it had produced anything is run again on another.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from serve.core.call import Call
from serve.core.errors import EngineUnavailable
from serve.engines.affinity import Affinity, Trail, trail_of
from serve.engines.backend import Backend, Claim
from serve.engines.client import EngineClient
from serve.engines.jobs import Jobs
from serve.engines.states import State
from serve.engines.status import EngineStatus

log = logging.getLogger("inhouse.engine")

DOUBT_S: Final = 5.0
"""An engine on which a request was lost is the last choice for so long, or until it is another."""

BUSY_REQUESTS: Final = 16
"""Requests on each engine that answers, from which on one that is at rest is brought back."""

ROUSE_TIMEOUT_S: Final = 600.0

_RANK: Final = (State.READY, State.STARTING, State.SLEEPING, State.STOPPED, State.FAILED)
"""What several engines are together: the first of these that any of them is."""


class Member(Backend, Protocol):
    """An engine that can be one of several."""

    @property
    def open(self) -> bool:
        """Requests may begin on it, where it is ready."""


class Chooser(Protocol):
    """Who says where a request goes (see `serve.engines.affinity.Affinity`)."""

    def choose(self, trail: Trail, loads: Mapping[int, int]) -> int:
        """One of the members in `loads`, which says how many requests each has in hand."""

    def remember(self, trail: Trail, member: int) -> None:
        """This prompt has gone there."""

    def forget(self, member: int) -> None:
        """It has lost its cache."""


class Placed:
    """A claim on one of several engines."""

    __slots__ = ("_claim", "_part", "client")

    def __init__(self, part: "Part", claim: Claim) -> None:
        self._part = part
        self._claim = claim
        self.client = claim.client
        part.in_hand += 1

    def release(self) -> None:
        self._part.in_hand -= 1
        self._claim.release()


@dataclass(slots=True, eq=False)
class Part:
    """One of the engines, and what its others need to know of it."""

    label: str
    member: Member
    in_hand: int = 0
    seen: EngineClient | None = None
    """What it was asked through when its status last changed."""
    doubted: EngineClient | None = None
    doubted_until_s: float = 0.0
    rousing: bool = False

    def in_doubt(self, now_s: float) -> bool:
        """A request was lost on it lately, and it is still the same process."""
        return self.doubted is self.member.client and now_s < self.doubted_until_s


class Replicas:
    """Several engines of one model. `members`: each by a name that it keeps."""

    def __init__(
        self,
        model_id: str,
        members: Mapping[str, Member],
        *,
        chooser: Chooser | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model_id = model_id
        self._parts = tuple(Part(label, member) for label, member in members.items())
        self._chooser = chooser or Affinity(tuple(members))
        self._clock_s = clock_s
        self._jobs = Jobs(self._failed)
        for index, part in enumerate(self._parts):
            part.member.subscribe(partial(self._changed, index))

    @property
    def members(self) -> dict[str, Member]:
        """Its engines by name, for those who want to know of each."""
        return {part.label: part.member for part in self._parts}

    @property
    def in_hand(self) -> dict[str, int]:
        """Requests that each engine has now."""
        return {part.label: part.in_hand for part in self._parts}

    # The backend

    @property
    def status(self) -> EngineStatus:
        """Of all together: ready where one is."""
        return merged(self._model_id, [part.member.status for part in self._parts])

    @property
    def client(self) -> EngineClient | None:
        clients = (part.member.client for part in self._parts)
        return next((one for one in clients if one is not None), None)

    def subscribe(self, callback: Callable[[], None]) -> None:
        for part in self._parts:
            part.member.subscribe(callback)

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        """See `serve.engines.backend.Backend.claim`."""
        if avoid is not None:
            self._doubt(avoid)
        trail = trail_of(call.body)
        deadline_s = self._clock_s() + timeout_s
        ready = self._ready(lost=avoid is not None)
        while ready:
            index = self._chosen(trail, ready)
            try:
                # It can answer now, so this does not wait.
                left_s = max(0.0, deadline_s - self._clock_s())
                claim = await self._parts[index].member.claim(call, left_s)
            except EngineUnavailable:
                ready = [one for one in ready if one != index]
            else:
                self._grow(call, ready)
                return self._placed(trail, index, claim)
        return await self._wait(call, trail, max(0.0, deadline_s - self._clock_s()), avoid)

    def _ready(self, *, lost: bool) -> list[int]:
        """Engines that can answer now.

        One that is doubted is among them only where there is no other, and never for a request
        that was `lost`.
        """
        ready = [
            index
            for index, part in enumerate(self._parts)
            if part.member.client is not None and part.member.open
        ]
        now_s = self._clock_s()
        trusted = [index for index in ready if not self._parts[index].in_doubt(now_s)]
        return trusted if trusted or lost else ready

    def _chosen(self, trail: Trail, among: Sequence[int]) -> int:
        return self._chooser.choose(trail, {one: self._parts[one].in_hand for one in among})

    def _placed(self, trail: Trail, index: int, claim: Claim) -> Placed:
        self._chooser.remember(trail, index)
        return Placed(self._parts[index], claim)

    async def _wait(
        self, call: Call, trail: Trail, timeout_s: float, avoid: EngineClient | None
    ) -> Placed:
        """Wait for every engine, which loads or wakes those that are at rest; take the first."""
        waits = {
            asyncio.create_task(part.member.claim(call, timeout_s, avoid)): index
            for index, part in enumerate(self._parts)
        }
        pending = set(waits)
        refusals: list[EngineUnavailable] = []
        taken: Claim | None = None
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                there = {waits[one]: one.result() for one in done if one.exception() is None}
                if there:
                    index = self._chosen(trail, list(there))
                    taken = there[index]
                    return self._placed(trail, index, taken)
                for one in done:
                    error = one.exception()
                    if not isinstance(error, EngineUnavailable):
                        one.result()
                    else:
                        refusals.append(error)
            raise min(refusals, key=lambda error: error.retry_after_s)
        finally:
            _abandon(waits, taken)

    def _grow(self, call: Call, ready: Sequence[int]) -> None:
        """Bring back an engine that is at rest, where those that answer have enough to do."""
        if len(ready) == len(self._parts):
            return
        if min(self._parts[index].in_hand for index in ready) < BUSY_REQUESTS:
            return
        for part in self._parts:
            if part.member.status.resting and not part.rousing:
                part.rousing = True
                self._jobs.start(self._rouse(part, call))
                return

    async def _rouse(self, part: Part, call: Call) -> None:
        try:
            (await part.member.claim(call, ROUSE_TIMEOUT_S)).release()
        except EngineUnavailable as error:
            log.info("a replica stays at rest", extra={"engine": part.label, "why": error.message})
        finally:
            part.rousing = False

    def _failed(self, error: Exception) -> None:
        log.error("a replica could not be brought back", exc_info=error)

    def _doubt(self, client: EngineClient) -> None:
        for part in self._parts:
            if part.member.client is client:
                part.doubted = client
                part.doubted_until_s = self._clock_s() + DOUBT_S

    def _changed(self, index: int) -> None:
        part = self._parts[index]
        client = part.member.client
        if client is not part.seen:
            part.seen = client
            if client is not None:
                # A new process, or one that gave its memory back: its cache is empty.
                self._chooser.forget(index)


def _abandon(waits: Iterable["asyncio.Task[Claim]"], taken: Claim | None) -> None:
    """End all waits and have what they got given back, but for the one that is taken.

    Waits for nothing: a request cancelled meanwhile would keep what it had taken for ever.
    """

    def give_back(wait: "asyncio.Task[Claim]") -> None:
        if not wait.cancelled() and wait.exception() is None and wait.result() is not taken:
            wait.result().release()

    for wait in waits:
        wait.cancel()
        wait.add_done_callback(give_back)


def merged(model_id: str, statuses: Sequence[EngineStatus]) -> EngineStatus:
    """What engines of one model are together.

    `state` is the best of theirs; counts are summed, so that `generation` grows with each new
    process; `last_error` is that of the first which has one and is not ready.
    """
    best = min(statuses, key=lambda one: _RANK.index(one.state))
    starts_s = [one.next_start_in_s for one in statuses if one.next_start_in_s is not None]
    guesses_s = [one.ready_in_s for one in statuses if one.ready_in_s is not None]
    errors = [one.last_error for one in statuses if one.state is not State.READY]
    return EngineStatus(
        model_id=model_id,
        state=best.state,
        pid=best.pid,
        generation=sum(one.generation for one in statuses),
        since_s=best.since_s,
        restarts=sum(one.restarts for one in statuses),
        last_error=next((error for error in errors if error is not None), best.last_error),
        next_start_in_s=min(starts_s, default=None),
        hangs=sum(one.hangs for one in statuses),
        turning=any(one.turning for one in statuses),
        resting=all(one.resting for one in statuses),
        ready_in_s=None if best.state is State.READY else min(guesses_s, default=None),
    )
