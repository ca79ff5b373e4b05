"""Several engines of one model: which one a request is given, and what follows from a loss."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.core.call import Call
from serve.core.errors import EngineUnavailable
from serve.engines.affinity import Trail, load_bound
from serve.engines.backend import Claim
from serve.engines.client import EngineClient
from serve.engines.replicas import BUSY_REQUESTS, DOUBT_S, Replicas, merged
from serve.engines.states import State
from serve.engines.status import EngineStatus
from tests.engines.machine import CALL, cpu, portfolio, resident, run_virtually
from tests.engines.machine import Machine as VirtualMachine

NAMES = ("m#1", "m#2", "m#3")


def status(state: State, **fields: Any) -> EngineStatus:
    plain: dict[str, Any] = {
        "model_id": "m", "pid": None, "generation": 0, "since_s": 0.0, "restarts": 0,
        "last_error": None, "next_start_in_s": None,
    }  # fmt: skip
    return EngineStatus(state=state, **(plain | fields))


class Engine:
    """A member that is ready when told so."""

    def __init__(self, *, ready: bool = True) -> None:
        self.client = EngineClient(Path("none")) if ready else None
        self.open = True
        self.status = status(State.READY if ready else State.STOPPED, resting=not ready)
        self.held = 0
        self.asked = 0
        self.avoided: list[EngineClient | None] = []
        self.refusal: EngineUnavailable | None = None
        self._changed: list[Callable[[], None]] = []
        self._there = asyncio.Event()

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._changed.append(callback)

    def become(self, *, ready: bool) -> None:
        self.client = EngineClient(Path("none")) if ready else None
        self.status = status(State.READY if ready else State.STARTING)
        for callback in self._changed:
            callback()
        self._there.set()
        self._there = asyncio.Event()

    async def claim(
        self, call: Call, timeout_s: float, avoid: EngineClient | None = None
    ) -> "Hold":
        self.asked += 1
        self.avoided.append(avoid)
        if self.refusal is not None:
            raise self.refusal
        try:
            async with asyncio.timeout(timeout_s):
                while self.client is None:
                    await self._there.wait()
        except TimeoutError:
            raise EngineUnavailable("m is starting", retry_after_s=9) from None
        return Hold(self, self.client)


class Hold:
    def __init__(self, engine: Engine, client: EngineClient) -> None:
        self._engine = engine
        self.client = client
        engine.held += 1

    def release(self) -> None:
        self._engine.held -= 1


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class First:
    """Chooses the first, and keeps what it is told."""

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self.remembered: list[int] = []

    def choose(self, trail: Trail, loads: Mapping[int, int]) -> int:
        return min(loads)

    def remember(self, trail: Trail, member: int) -> None:
        self.remembered.append(member)

    def forget(self, member: int) -> None:
        self.forgotten.append(member)


def joined(*engines: Engine, **options: Any) -> Replicas:
    return Replicas("m", dict(zip(NAMES, engines, strict=False)), **options)


def call(text: str) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return Call("r", "chat.completions", "/", CALL.principal, "m", body, 1, False, 0.0)


def where(engines: tuple[Engine, ...], claim: Claim) -> int:
    return next(at for at, one in enumerate(engines) if one.client is claim.client)


async def test_a_conversation_returns_to_its_replica() -> None:
    engines = Engine(), Engine(), Engine()
    replicas = joined(*engines)
    used = set()
    for number in range(30):
        text = f"{number} " + "question " * 200
        claim = await replicas.claim(call(text), 1)
        claim.release()
        again = await replicas.claim(call(text + "and more"), 1)
        again.release()
        assert again.client is claim.client
        used.add(where(engines, claim))
    assert used == {0, 1, 2}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_no_engine_has_more_than_its_share(steps: list[tuple[int, bool]]) -> None:
    async def story() -> None:
        replicas = joined(Engine(), Engine(), Engine())
        held: list[Claim] = []
        for text, ends in steps:
            if ends and held:
                held.pop(0).release()
            else:
                held.append(await replicas.claim(call(f"{text} " * 300), 1))
                # The newest is within the bound; others may have ended since.
                chosen = next(
                    label for label, one in replicas.members.items()
                    if one.client is held[-1].client
                )  # fmt: skip
                assert replicas.in_hand[chosen] <= load_bound(len(held), 3)
        assert sum(replicas.in_hand.values()) == len(held)
        for claim in held:
            claim.release()
        assert set(replicas.in_hand.values()) == {0}

    asyncio.run(story())


async def test_one_that_is_not_ready_or_not_open_is_passed_over() -> None:
    away, drained, there = Engine(ready=False), Engine(), Engine()
    drained.open = False
    replicas = joined(away, drained, there, chooser=First())
    claim = await replicas.claim(call("hi"), 1)
    assert claim.client is there.client
    assert away.asked == drained.asked == 0


async def test_one_that_refuses_after_all_is_passed_over() -> None:
    first, second = Engine(), Engine()
    first.refusal = EngineUnavailable("just died")
    claim = await joined(first, second, chooser=First()).claim(call("hi"), 1)
    assert claim.client is second.client


async def test_a_request_that_was_lost_goes_to_another() -> None:
    first, second = Engine(), Engine()
    clock = Clock()
    replicas = joined(first, second, chooser=First(), clock_s=clock)
    lost = await replicas.claim(call("hi"), 1)
    lost.release()
    again = await replicas.claim(call("hi"), 1, lost.client)
    assert again.client is second.client
    # New ones keep away too, for a time, as long as it is the same process.
    assert (await replicas.claim(call("new"), 1)).client is second.client
    clock.now_s = DOUBT_S
    assert (await replicas.claim(call("new"), 1)).client is first.client


async def test_a_new_process_is_not_doubted() -> None:
    first, second = Engine(), Engine()
    replicas = joined(first, second, chooser=First(), clock_s=Clock())
    lost = first.client
    assert (await replicas.claim(call("hi"), 1, lost)).client is second.client
    first.become(ready=True)
    assert (await replicas.claim(call("hi"), 1)).client is first.client


async def test_the_doubted_is_better_than_none_but_not_for_what_it_lost() -> None:
    only = Engine()
    replicas = joined(only, clock_s=Clock())
    lost = only.client
    claim = await replicas.claim(call("hi"), 1, lost)
    assert only.avoided == [lost], "it decides itself whether it lives"
    claim.release()
    assert (await replicas.claim(call("new"), 1)).client is only.client


async def test_where_none_is_ready_the_first_that_is_takes_all() -> None:
    engines = Engine(ready=False), Engine(ready=False)
    replicas = joined(*engines)
    waiting = [asyncio.create_task(replicas.claim(call("hi"), 5)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [one.asked for one in engines] == [3, 3]
    engines[1].become(ready=True)
    claims = await asyncio.gather(*waiting)
    assert {one.client for one in claims} == {engines[1].client}
    assert [one.held for one in engines] == [0, 3]
    engines[0].become(ready=True)
    await asyncio.sleep(0.01)
    assert [one.held for one in engines] == [0, 3]


async def test_of_two_that_come_at_once_one_is_given_back() -> None:
    engines = Engine(ready=False), Engine(ready=False)
    replicas = joined(*engines)
    waiting = asyncio.create_task(replicas.claim(call("hi"), 5))
    await asyncio.sleep(0.01)
    for one in engines:
        one.become(ready=True)
    claim = await waiting
    await asyncio.sleep(0.01)
    assert sorted(one.held for one in engines) == [0, 1]
    claim.release()
    assert [one.held for one in engines] == [0, 0]


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_goes_at_any_moment_leaves_nothing_held(turns: int) -> None:
    engines = Engine(ready=False), Engine(ready=False)
    replicas = joined(*engines)
    waiting = asyncio.create_task(replicas.claim(call("hi"), 5))
    await asyncio.sleep(0.01)
    for one in engines:
        one.become(ready=True)
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        waiting.result().release()
    await asyncio.sleep(0.01)
    assert [one.held for one in engines] == [0, 0]
    assert set(replicas.in_hand.values()) == {0}


async def test_where_all_refuse_the_soonest_retry_is_told() -> None:
    engines = Engine(ready=False), Engine(ready=False)
    engines[0].refusal = EngineUnavailable("failed", retry_after_s=60)
    with pytest.raises(EngineUnavailable) as refused:
        await joined(*engines).claim(call("hi"), 0.01)
    assert refused.value.retry_after_s == 9


async def test_a_refusal_of_one_does_not_end_the_wait_for_the_other() -> None:
    engines = Engine(ready=False), Engine(ready=False)
    engines[0].refusal = EngineUnavailable("failed", retry_after_s=60)
    waiting = asyncio.create_task(joined(*engines).claim(call("hi"), 5))
    await asyncio.sleep(0.01)
    engines[1].become(ready=True)
    assert (await waiting).client is engines[1].client


async def test_a_cache_that_is_gone_is_forgotten() -> None:
    engines = Engine(), Engine()
    chooser = First()
    joined(*engines, chooser=chooser)
    for one in engines:
        one.become(ready=True)
    chooser.forgotten.clear()
    engines[1].become(ready=False)
    assert chooser.forgotten == []
    engines[1].become(ready=True)
    assert chooser.forgotten == [1]


async def test_one_at_rest_is_brought_back_once_the_others_have_enough() -> None:
    there, resting = Engine(), Engine(ready=False)
    replicas = joined(there, resting)
    claims = [await replicas.claim(call("hi"), 1) for _ in range(BUSY_REQUESTS - 1)]
    await asyncio.sleep(0)
    assert resting.asked == 0
    claims += [await replicas.claim(call("hi"), 1) for _ in range(3)]
    await asyncio.sleep(0)
    assert resting.asked == 1, "once, however many ask"
    resting.become(ready=True)
    await asyncio.sleep(0.01)
    assert resting.held == 0
    assert (await replicas.claim(call("hi"), 1)).client is resting.client


async def test_one_that_is_broken_is_not_brought_back() -> None:
    there, broken = Engine(), Engine(ready=False)
    broken.status = status(State.FAILED)
    replicas = joined(there, broken)
    for _ in range(BUSY_REQUESTS + 3):
        await replicas.claim(call("hi"), 1)
    await asyncio.sleep(0)
    assert broken.asked == 0


def test_together_they_are_the_best_of_them() -> None:
    failed = status(State.FAILED, last_error="no", generation=5, restarts=4, since_s=1.0)
    ready = status(State.READY, pid=7, generation=1, since_s=2.0)
    one = merged("m", [failed, ready])
    assert (one.state, one.pid, one.since_s, one.last_error) == (State.READY, 7, 2.0, "no")
    assert (one.generation, one.restarts, one.ready_in_s) == (6, 4, None)
    starting = status(State.STARTING, ready_in_s=4.0, next_start_in_s=3.0)
    two = merged("m", [failed, starting, status(State.SLEEPING, ready_in_s=0.5, resting=True)])
    assert (two.state, two.ready_in_s, two.next_start_in_s) == (State.STARTING, 0.5, 3.0)
    assert not two.resting


async def test_what_is_said_of_it() -> None:
    engines = Engine(ready=False), Engine()
    replicas = joined(*engines)
    told = []
    replicas.subscribe(lambda: told.append(replicas.status.state))
    assert replicas.client is engines[1].client
    assert list(replicas.members) == ["m#1", "m#2"]
    engines[1].become(ready=False)
    assert told == [State.STARTING]
    assert replicas.client is None


def test_requests_survive_the_death_of_a_real_supervised_engine() -> None:
    async def story() -> None:
        machine = VirtualMachine({"host": 64 * 2**30}, {"m1": cpu(2), "m2": cpu(2)})
        engines = [resident(machine, name, load="startup") for name in machine.needs]
        running = portfolio(machine, *engines)
        replicas = Replicas("m", {one.key: one for one in engines})
        await running.start()
        held = [await replicas.claim(call(f"{n} " * 200), 60) for n in range(8)]
        await asyncio.sleep(10)
        for claim in held:
            claim.release()
        held = [await replicas.claim(call(f"{n} " * 200), 60) for n in range(8)]
        assert max(replicas.in_hand.values()) <= load_bound(8, 2)
        victim = engines[0].supervisor.client
        assert victim is not None
        machine.kill("m1")
        for at, claim in enumerate(held):
            if claim.client is victim:
                claim.release()
                held[at] = await replicas.claim(call(f"{at} " * 200), 60, victim)
        assert {one.client for one in held} == {engines[1].supervisor.client}
        for claim in held:
            claim.release()
        await running.stop()

    run_virtually(story())
