"""The eval gate: what a new engine answers to known questions, before it is given requests.

Questions are asked at temperature 0 with a fixed seed, past the pipeline, on the engine itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from serve.core.errors import EngineError
from serve.engines.client import EngineClient
from serve.settings.cases import Case, Cases

ASKED_AT_ONCE: Final = 4
SEED: Final = 0
CLIP_CHARS: Final = 200
FAILURES_SHOWN: Final = 5

Progress = Callable[[int, int], None]
"""(answered, of)"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that was not passed: its line in the file, what was expected and what came."""

    line: int
    name: str | None
    expected: str
    got: str

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name else ""
        return f"case at line {self.line}{name}: expected {self.expected}, got {self.got!r}"


@dataclass(frozen=True, slots=True)
class Result:
    """How an engine did on one set."""

    path: Path
    digest: str
    total: int
    passed: int
    threshold: float
    failures: tuple[Failure, ...]
    took_s: float

    @property
    def score(self) -> float:
        """The part that was passed."""
        return self.passed / self.total

    @property
    def good(self) -> bool:
        """Whether that is enough."""
        return self.score >= self.threshold

    def __str__(self) -> str:
        text = f"{self.path.name}: {self.passed} of {self.total} passed"
        if self.good:
            return text
        shown = "; ".join(str(one) for one in self.failures[:FAILURES_SHOWN])
        more = len(self.failures) - FAILURES_SHOWN
        return (
            f"{text}, at least {self.threshold:.0%} must: {shown}"
            + (f"; and {more} more" if more > 0 else "")
        )  # fmt: skip


async def evaluate(
    cases: Cases, client: EngineClient, model: str, progress: Progress = lambda done, of: None
) -> Result:
    """Ask all questions of a set; `model` is what the engine calls its model.

    Raises EngineError where the engine ends, or where the set's `timeout_s` does before all have
    been answered.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    done = 0
    places = asyncio.Semaphore(ASKED_AT_ONCE)

    async def one(case: Case) -> Failure | None:
        nonlocal done
        async with places:
            failure = await _failure(case, client, model)
        done += 1
        progress(done, len(cases.cases))
        return failure

    try:
        async with asyncio.timeout(cases.set.timeout_s):
            failures = await _all([one(case) for case in cases.cases])
    except TimeoutError:
        raise EngineError(
            f"{cases.set.path.name}: {done} of {len(cases.cases)} questions were answered within "
            f"its timeout_s of {cases.set.timeout_s:g} s"
        ) from None
    failed = tuple(failure for failure in failures if failure is not None)
    return Result(
        path=cases.set.path,
        digest=cases.digest,
        total=len(cases.cases),
        passed=len(cases.cases) - len(failed),
        threshold=cases.set.threshold,
        failures=failed,
        took_s=loop.time() - began_s,
    )


async def _all(asking: Sequence[Any]) -> list[Failure | None]:
    """As gather, but a failure ends the others, and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asking]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _failure(case: Case, client: EngineClient, model: str) -> Failure | None:
    body = {
        "model": model,
        "messages": [message.model_dump() for message in case.messages],
        "max_tokens": case.max_tokens,
        "temperature": 0,
        "seed": SEED,
    }
    connection = await client.post("/v1/chat/completions", orjson.dumps(body))
    try:
        data = await connection.read()
    finally:
        client.release(connection)
    if connection.status != 200:
        got = f"error {connection.status}: {data.decode(errors='replace')}"
    else:
        answer = _answer(data)
        # In a thread: a schema may be large.
        if await asyncio.to_thread(case.expected.met_by, answer):
            return None
        got = answer
    return Failure(case.line, case.name, _clipped(str(case.expected)), _clipped(got))


def _answer(data: bytes) -> str:
    try:
        return str(orjson.loads(data)["choices"][0]["message"]["content"] or "")
    except (ValueError, LookupError, TypeError):
        raise EngineError("the engine's answer to a question is not a chat completion") from None


def _clipped(text: str) -> str:
    return text if len(text) <= CLIP_CHARS else text[:CLIP_CHARS] + "…"
