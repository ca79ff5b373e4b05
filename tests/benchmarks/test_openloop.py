"""The open-loop driver against the stub, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.load.compose import Drawn, drawn
from benchmarks.load.conduct import Conditions, conduct
from benchmarks.load.openloop import GIVE_UP_AFTER, OpenLoop
from benchmarks.load.result import Objective, Result
from benchmarks.load.stub import Manner, Pace
from benchmarks.load.stubs import RunningStub, running
from benchmarks.load.target import target
from benchmarks.load.workload import Workload

PACE = Pace(ttft_s=0.05, gap_s=0.01, tokens=6)
GOAL = Objective(name="goal", ttft_s=5, tpot_s=5)
QUICK = Conditions(objective=GOAL, timeout_s=20, warm_up=0)


def asked(count: int = 6, rate_per_s: float = 100.0) -> Workload:
    return drawn("t", Drawn("constant", rate_per_s, count, 8, 6), 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub() -> AsyncIterator[RunningStub]:
    async with running(PACE) as found:
        yield found


@pytest.mark.asyncio(loop_scope="module")
class TestAgainstTheStub:
    async def run(self, stub: RunningStub, manner: Manner, conditions: Conditions) -> Result:
        return await conduct(stub.target(manner), asked(), conditions)

    async def test_what_the_stub_did_is_in_the_rows(self, stub: RunningStub) -> None:
        result = await self.run(stub, "ok", QUICK)
        assert [row.id for row in result.rows] == list(range(6))
        assert [row.intended_s for row in result.rows] == pytest.approx(
            [number / 100 for number in range(6)]
        )
        for row in result.rows:
            assert row.outcome == "ok" and row.doubt is None
            assert row.sent_s is not None and row.sent_s >= row.intended_s
            assert row.first_token_s is not None
            assert row.first_token_s - row.sent_s >= PACE.ttft_s * 0.98
            assert (row.completion_tokens, row.token_chunks, len(row.gaps_s)) == (6, 6, 5)
            assert row.cached_tokens == 0
            assert row.headers["x-request-id"].startswith("stub-")
        assert result.models_answered == ("stub",)
        assert result.summary.goodput is not None and result.summary.goodput.met == 6
        assert len(result.rtt_s) == 10

    @pytest.mark.parametrize(
        ("manner", "outcome", "detail"),
        [
            ("quota", "quota", "slow down"),
            ("broken", "server_error", "it broke"),
            ("html", "wrong_answer", "Please log in"),
            ("json", "wrong_answer", "not streamed"),
            ("cut", "cut", "closed before"),
            ("no_end", "cut", "ended before"),
            ("error", "error", "the engine died"),
            ("empty", "empty", "without a token"),
        ],
    )
    async def test_each_failure_has_its_word_and_its_reason(
        self, stub: RunningStub, manner: Manner, outcome: str, detail: str
    ) -> None:
        result = await self.run(stub, manner, QUICK)
        assert {row.outcome for row in result.rows} == {outcome}
        assert detail in result.rows[0].detail
        assert not result.valid
        assert "no request was answered" in result.verdict and detail in result.verdict
        assert result.summary.goodput is not None and result.summary.goodput.attainment == 0

    async def test_a_silent_server_times_out(self, stub: RunningStub) -> None:
        result = await self.run(stub, "silent", Conditions(timeout_s=0.2, warm_up=0))
        assert {row.outcome for row in result.rows} == {"timeout"}

    @pytest.mark.parametrize(
        ("manner", "doubt"),
        [
            ("no_usage", "no usage"),
            ("few_tokens", "usage says 3 tokens, and 6 chunks had one"),
            ("many_tokens", "usage says 6000 tokens for 30 bytes of text"),
        ],
    )
    async def test_counts_that_cannot_be_are_not_believed(
        self, stub: RunningStub, manner: Manner, doubt: str
    ) -> None:
        result = await self.run(stub, manner, QUICK)
        assert {(row.outcome, row.doubt) for row in result.rows} == {("ok", doubt)}
        assert result.summary.tpot.p50 is None
        assert result.summary.ttft.p50 is not None
        assert "tokens not believed: 6 answers" in result.verdict

    async def test_a_stopped_run_keeps_what_it_found(self, stub: RunningStub) -> None:
        loops: list[OpenLoop] = []
        work = asyncio.create_task(
            conduct(stub.target(), asked(100, rate_per_s=20), QUICK, loops.append)
        )
        while not loops:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.4)
        loops[0].stop()
        result = await work
        assert len(result.rows) == 100
        words = result.summary.outcomes
        assert words["ok"] >= 1 and words["unsent"] >= 50
        assert not result.valid and "stopped before its end" in result.marks


async def test_one_in_so_many_fails_and_counts() -> None:
    async with running(Pace(ttft_s=0.01, gap_s=0.001, tokens=2, fail_every=4)) as stub:
        result = await conduct(stub.target(), asked(80, 400), QUICK)
    assert result.summary.outcomes == {"ok": 60, "server_error": 20}
    assert result.summary.goodput is not None and result.summary.goodput.attainment == 0.75
    assert result.summary.ttft.p95 == float("inf")


async def test_a_target_that_is_down_is_given_up() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    result = await conduct(target(url, "m", {}), asked(200, 1000), QUICK)
    words = result.summary.outcomes
    assert set(words) == {"unreachable", "unsent"}
    assert words["unreachable"] >= GIVE_UP_AFTER
    assert "given up" in result.verdict and "refused" in result.verdict


async def test_requests_do_not_wait_for_those_before_them() -> None:
    """A closed loop would send the second after the first, which is held up."""
    async with running(Pace(ttft_s=0.01, gap_s=0.001, tokens=2, stall_s=0.5)) as stub:
        result = await conduct(stub.target(), asked(10, 100), QUICK)
    assert [row.outcome for row in result.rows] == ["ok"] * 10
    assert all(row.sent_s is not None and row.sent_s < 0.4 for row in result.rows)
    assert all(row.first_token_s is not None and row.first_token_s >= 0.45 for row in result.rows)


async def test_more_than_the_connections_allowed_are_not_sent_and_spoil_the_run() -> None:
    async with running(Pace(ttft_s=0.3, gap_s=0.001, tokens=2)) as stub:
        loop = OpenLoop(stub.target(), 5, connections_max=2)
        requests = asked(5, 1000).requests
        encoded = [stub.target().encoded(one, "s", {}) for one in requests]
        run = await loop.run(requests, encoded, [0.0] * 5)  # at once: no answer comes between
    assert [row.outcome for row in run.rows] == ["ok", "ok", "unsent", "unsent", "unsent"]
    assert "2 connections" in run.rows[-1].detail
