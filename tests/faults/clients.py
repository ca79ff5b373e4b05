"""Clients that ask without a pause and judge every answer, and who kills engines under them."""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx

from serve.engines.mortality import session_members
from tests.conftest import Gateway

STREAMS = 8
WHOLE = ("stop", "length")
SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
SURVIVED = 2
"""Engines that a request may lose before it has produced anything, and is answered all the same."""
PATIENCE_S = 300


@dataclass
class Answer:
    """What became of one request: `error` is the code that it was given, `broken` what it should
    not have been."""

    began_s: float = field(default_factory=time.monotonic)
    request_id: str = ""
    produced: bool = False
    whole: bool = False
    error: str | None = None
    why: str = ""
    broken: str | None = None
    fingerprint: str = ""
    first_s: float | None = None

    @property
    def lost(self) -> bool:
        """It had produced nothing, and was not answered."""
        return not self.whole and not self.produced


@dataclass
class Clients:
    """Eight at a time, each with its next request as soon as the last one has ended.

    `body` makes a request; of four, one is not streamed.
    """

    gateway: Gateway
    body: Callable[[int], dict[str, Any]]
    answers: list[Answer] = field(default_factory=list, repr=False)
    running: list[Answer] = field(default_factory=list, repr=False)

    async def run_during(self, *works: Coroutine[Any, Any, None]) -> None:
        """Ask until all of these have ended."""
        over = asyncio.Event()
        headers = {"Authorization": f"Bearer {self.gateway.key}"}
        async with (
            httpx.AsyncClient(
                base_url=self.gateway.url, headers=headers, timeout=PATIENCE_S
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(STREAMS):
                group.create_task(self._go_on(client, over))
            try:
                await asyncio.gather(*works)
            finally:
                over.set()

    async def _go_on(self, client: httpx.AsyncClient, over: asyncio.Event) -> None:
        while not over.is_set():
            answer = Answer()
            self.answers.append(answer)
            self.running.append(answer)
            number = len(self.answers)
            stream = number % 4 != 0
            try:
                await _ask(client, self.body(number) | {"stream": stream}, answer)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                answer.broken = repr(error)
            finally:
                self.running.remove(answer)

    def wrong(self) -> list[str]:
        """What was lost or broken, and what is not settled in the log exactly once."""
        settled = outcomes(self.gateway)
        found = [f"broken: {one}" for one in self.answers if one.broken]
        found += [f"lost: {one}" for one in self.answers if one.lost]
        found += [
            f"settled as {settled.get(one.request_id)}: {one}"
            for one in self.answers
            if settled.get(one.request_id) != ["ok" if one.whole else "engine_error"]
        ]
        if len({one.request_id for one in self.answers}) < len(self.answers):
            found.append("two requests of one id")
        return found

    def told(self) -> str:
        """The figures."""
        errors = [one.error for one in self.answers if not one.whole]
        return (
            f"{len(self.answers)} sent, {sum(one.whole for one in self.answers)} whole, "
            f"{len(errors)} ended after output by {sorted(set(map(str, errors)))}, "
            f"{sum(one.lost for one in self.answers)} lost"
        )


async def _ask(client: httpx.AsyncClient, body: dict[str, Any], answer: Answer) -> None:
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        answer.request_id = response.headers["x-request-id"]
        if response.status_code != 200:
            error = json.loads(await response.aread())["error"]
            answer.error, answer.why = error["code"], error["message"]
            return
        if not body["stream"]:
            got = json.loads(await response.aread())
            (choice,) = got["choices"]
            answer.fingerprint = got["system_fingerprint"]
            answer.whole = choice["finish_reason"] in WHOLE
            answer.broken = None if answer.whole else json.dumps(got)
            return
        finish = last = None
        async for event in _events(response):
            if last is not None:
                raise ValueError(f"{event!r} after {last!r}")
            if event == "[DONE]":
                last = event
                continue
            chunk = json.loads(event)
            if "error" in chunk:
                answer.error = last = chunk["error"]["code"]
                answer.why = chunk["error"]["message"]
                continue
            answer.fingerprint = chunk["system_fingerprint"]
            for choice in chunk["choices"]:
                answer.produced = answer.produced or bool(choice["delta"].get("content"))
                finish = choice["finish_reason"] or finish
            if answer.produced and answer.first_s is None:
                answer.first_s = time.monotonic() - answer.began_s
    answer.whole = last == "[DONE]" and finish in WHOLE
    if not answer.whole and answer.error is None:
        answer.broken = f"ended by {last!r} with the finish reason {finish!r}"


async def _events(response: httpx.Response) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")
        elif line and not line.startswith(":"):
            raise ValueError(f"no event: {line!r}")


def outcomes(gateway: Gateway) -> dict[str, list[str]]:
    """How the log says that each request ended, once for each time that it says so."""
    found: dict[str, list[str]] = {}
    with (gateway.var_dir / "stderr.txt").open() as lines:
        for line in lines:
            if '"inhouse.request"' in line:
                told = json.loads(line)
                found.setdefault(told["request_id"], []).append(told["outcome"])
    return found


@dataclass
class Fault:
    """A signal that one process of an engine was sent, and how long it was until that engine was
    gone, and until the model answered again."""

    sent: signal.Signals
    leader: int
    at_s: float = field(default_factory=time.monotonic)
    gone_s: float = math.inf
    back_s: float = math.inf


@dataclass
class Killer:
    """Sends SIGKILL and SIGSTOP to engines, at moments that its seed decides.

    No request is made to lose three engines: the gateway promises to run it on no more. `victim`
    says whether a child of the gateway may be one.
    """

    clients: Clients
    number: int
    pause_s: tuple[float, float]
    random: random.Random
    victim: Callable[[int], bool] = lambda _: True
    faults: list[Fault] = field(default_factory=list)

    async def run(self) -> None:
        """All faults; the next one does not wait until an engine is back."""
        async with (
            httpx.AsyncClient(base_url=self.clients.gateway.url, timeout=PATIENCE_S) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self.number):
                await asyncio.sleep(self.random.uniform(*self.pause_s))
                fault = await self._strike(SIGNALS[number % len(SIGNALS)])
                self.faults.append(fault)
                group.create_task(self._until_back(client, fault))

    async def _strike(self, sent: signal.Signals) -> Fault:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = [pid for pid in self.clients.gateway.engine_pids() if self.victim(pid)]
                if found and not self._twice_struck():
                    leader = self.random.choice(found)
                    members = sorted(session_members(leader)) or [leader]
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.random.choice(members), sent)
                        return Fault(sent, leader)
                await asyncio.sleep(0.01)

    def _twice_struck(self) -> bool:
        """Whether a request runs that may have lost two engines."""
        return any(
            sum(one.began_s < fault.at_s + fault.gone_s for fault in self.faults) >= SURVIVED
            for one in self.clients.running
        )

    async def _until_back(self, client: httpx.AsyncClient, fault: Fault) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while fault.leader in self.clients.gateway.engine_pids():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            fault.gone_s = time.monotonic() - fault.at_s
            while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            fault.back_s = time.monotonic() - fault.at_s

    def told(self) -> str:
        """The figures."""
        return "faults: " + ", ".join(
            f"{one.sent.name} gone {one.gone_s:.2f} s, back {one.back_s:.2f} s"
            for one in self.faults
        )
