"""A run from its workload to its result: warm-up, round trips, the open loop, marks, verdict."""

import asyncio
import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.load.metrics import summary
from benchmarks.load.openloop import OpenLoop
from benchmarks.load.result import Client, Objective, Result, Row
from benchmarks.load.target import Target
from benchmarks.load.validity import client_of, marks, verdict
from benchmarks.load.workload import Message, Planned, Workload, duration_s
from benchmarks.record import commit, machine, versions

WARM_UP: Final = "Say one word about the weather."
RTT_SAMPLES: Final = 5
NO_CEILING: Final = "the client's ceiling is not known here (inhouse bench selfcheck)"


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a run is made; times in seconds."""

    objective: Objective | None = None
    timeout_s: float = 600.0
    salt: str | None = None
    """Instead of the workload's own."""
    rate_per_s: float | None = None
    """Instead of the workload's own."""
    warm_up: int = 2
    """Requests beforehand, with a text that the workload does not have."""
    ceiling_chunks_per_s: float | None = None


async def conduct(
    target: Target, what: Workload, conditions: Conditions,
    on_loop: Callable[[OpenLoop], None] = lambda _: None,
) -> Result:  # fmt: skip
    """Run it. `on_loop` is given the loop before it begins, to stop it by."""
    salt = conditions.salt or what.heading.salt
    offsets = (
        tuple(one.offset_s for one in what.requests)
        if conditions.rate_per_s is None
        else what.at_rate(conditions.rate_per_s)
    )
    encoded = [target.encoded(one, salt, what.heading.fields) for one in what.requests]
    await _warm_up(target, what, conditions)
    rtt_s = await _round_trips(target)
    started = datetime.datetime.now(datetime.UTC)
    loop = OpenLoop(target, conditions.timeout_s)
    on_loop(loop)
    run = await loop.run(what.requests, encoded, offsets)
    rtt_s += await _round_trips(target)
    account = Account(
        driver="open-loop", workload=what.heading.name, workload_sha256=what.heading.sha256,
        salt=salt, url=target.url, model=target.model, started=started,
        window_s=duration_s(offsets), objective=conditions.objective, rtt_s=rtt_s,
        gave_up=run.gave_up, stopped=run.stopped,
        notes=() if conditions.ceiling_chunks_per_s is not None else (NO_CEILING,),
    )  # fmt: skip
    return result_of(account, run.rows, client_of(run, conditions.ceiling_chunks_per_s))


@dataclass(frozen=True, slots=True)
class Account:
    """What a result says of its run beside its rows."""

    driver: Literal["open-loop", "locust"]
    workload: str
    workload_sha256: str
    salt: str
    url: str
    model: str
    started: datetime.datetime
    window_s: float
    objective: Objective | None
    rtt_s: tuple[float, ...] = ()
    gave_up: bool = False
    stopped: bool = False
    notes: tuple[str, ...] = ()


def result_of(account: Account, rows: tuple[Row, ...], client: Client) -> Result:
    """The result of any driver's rows."""
    figures = summary(rows, account.window_s, account.objective)
    bad, notes = marks(rows, figures, client, gave_up=account.gave_up, stopped=account.stopped)
    notes += account.notes
    return Result(
        driver=account.driver, started_at=account.started.isoformat(timespec="seconds"),
        workload=account.workload, workload_sha256=account.workload_sha256, salt=account.salt,
        url=account.url, model=account.model, models_answered=_models(rows), valid=not bad,
        marks=(*bad, *notes), verdict=verdict(figures, bad, notes), summary=figures, client=client,
        rtt_s=account.rtt_s, machine=machine(), versions=versions(), commit=commit(), rows=rows,
    )  # fmt: skip


async def _warm_up(target: Target, what: Workload, conditions: Conditions) -> None:
    """Whether they are answered is not asked: the run will say."""
    first = what.requests[0]
    texts = (WARM_UP,) if first.api == "embeddings" else ()
    messages = () if texts else (Message(role="user", content=WARM_UP),)
    for number in range(conditions.warm_up):
        planned = Planned(
            id=0, offset_s=0, api=first.api, messages=messages, texts=texts, max_tokens=8
        )
        data = target.encoded(planned, f"warm-up-{time.time_ns()}-{number}", what.heading.fields)
        await OpenLoop(target, conditions.timeout_s).run([planned], [data], [0.0])


async def _round_trips(target: Target) -> tuple[float, ...]:
    """What TCP connects take; nothing where there is no connection."""
    found = []
    for _ in range(RTT_SAMPLES):
        begin_s = time.perf_counter()
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(*_host_and_port(target))
        except (OSError, TimeoutError):
            break
        found.append(round(time.perf_counter() - begin_s, 6))
        writer.close()
    return tuple(found)


def _host_and_port(target: Target) -> tuple[str, int]:
    assert isinstance(target.address, tuple)
    return target.address


def _models(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(sorted({row.model for row in rows if row.model}))
