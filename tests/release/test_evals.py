"""The eval gate on a fake engine: what is counted, what is told, what ends it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import EngineError
from serve.engines.client import EngineClient
from serve.engines.fake.engine import FakeEngine
from serve.engines.fake.knobs import Knobs
from serve.engines.fake.wire import FakeProtocol
from serve.release.evals import evaluate
from serve.settings.cases import Cases, read_cases
from serve.settings.evals import EvalSet


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[EngineClient]:
    """Of an engine that says what it is told to."""
    engine = FakeEngine(Knobs())
    socket = tmp_path / "engine.sock"
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: FakeProtocol(engine), str(socket))
    client = EngineClient(socket)
    yield client
    await client.close()
    server.close()
    await server.wait_closed()


def cases(folder: Path, *pairs: tuple[str, str], **fields: Any) -> Cases:
    """(what the engine is told, what is expected exactly)"""
    path = folder / "set.jsonl"
    path.write_text(
        "\n".join(
            json.dumps(
                {
                    "name": f"n{number}",
                    "messages": [{"role": "user", "content": told}],
                    "expected": {"exact": expected},
                }
            )
            for number, (told, expected) in enumerate(pairs)
        )
    )
    return read_cases(EvalSet(path=path, **fields))


async def test_what_is_passed_is_counted(client: EngineClient, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pairs = [("fake:say=Paris", "Paris")] * 3 + [("fake:say=Rome", "Paris")]
    asked = cases(tmp_path, *pairs, threshold=0.75)
    result = await evaluate(asked, client, "fake", lambda *done: told.append(done))
    assert (result.passed, result.total, result.good) == (3, 4, True)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    (failure,) = result.failures
    assert str(failure) == """case at line 4 (n3): expected exact "Paris", got 'Rome'"""
    assert str(result) == "set.jsonl: 3 of 4 passed"


async def test_too_few_are_refused_with_the_cases(client: EngineClient, tmp_path: Path) -> None:
    pairs = [(f"fake:say={'x' * 500}", "Paris")] * 8
    result = await evaluate(cases(tmp_path, *pairs, threshold=0.5), client, "fake")
    assert not result.good
    text = str(result)
    assert "0 of 8 passed, at least 50% must" in text
    assert text.endswith("and 3 more")
    assert len(result.failures[0].got) == 201


async def test_a_refusal_is_a_failed_case(client: EngineClient, tmp_path: Path) -> None:
    result = await evaluate(cases(tmp_path, ("fake:status=400", "Paris")), client, "fake")
    assert result.failures[0].got.startswith("error 400")


async def test_it_ends_in_time(client: EngineClient, tmp_path: Path) -> None:
    asked = cases(tmp_path, ("fake:say=Paris", "Paris"), ("fake:hang", "x"), timeout_s=0.1)
    with pytest.raises(EngineError, match=r"1 of 2 questions .* timeout_s of 0\.1 s"):
        await evaluate(asked, client, "fake")


async def test_an_engine_that_goes_away_ends_it(client: EngineClient, tmp_path: Path) -> None:
    asked = cases(tmp_path, ("fake:say=Paris", "Paris"), ("fake:drop", "x"))
    with pytest.raises(EngineError):
        await evaluate(asked, client, "fake")
