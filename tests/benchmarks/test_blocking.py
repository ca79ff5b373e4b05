"""The connection of Locust's users, against the stub; without gevent it simply blocks."""

import socket
import time
from collections.abc import Iterator

import pytest

from benchmarks.load.blocking import BlockingConnection
from benchmarks.load.flight import Flight, reader_of
from benchmarks.load.result import Row
from benchmarks.load.target import Target, target
from benchmarks.load.workload import Message, Planned
from tests.benchmarks.paced import paced_stub

PLANNED = Planned(id=0, offset_s=0, messages=(Message(role="user", content="count"),), max_tokens=4)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with paced_stub(ttft_s=0.05, gap_s=0.01) as there:
        yield there


def ask(connection: BlockingConnection, there: Target) -> Row:
    origin_s = time.perf_counter()
    flight = Flight(PLANNED, origin_s, reader_of(PLANNED))
    connection.fly(flight, there.encoded(PLANNED, "s", {}))
    return flight.row(origin_s)


def test_tokens_are_seen_when_they_come_and_the_connection_is_kept(url: str) -> None:
    there = target(url, "stub", {})
    connection = BlockingConnection(there, 10)
    for _ in range(3):
        row = ask(connection, there)
        assert (row.outcome, row.token_chunks, row.completion_tokens) == ("ok", 4, 4)
        assert row.first_token_s is not None and row.first_token_s >= 0.049
        assert sum(row.gaps_s) >= 0.025
    assert connection.opened == 1
    connection.close()


@pytest.mark.parametrize(
    ("manner", "outcome", "detail"),
    [
        ("quota", "quota", "slow down"),
        ("html", "wrong_answer", "Please log in"),
        ("cut", "cut", "closed before the answer's end"),
        ("silent", "timeout", "no end within 0.3 s"),
    ],
)
def test_failures_have_their_words_and_the_next_request_is_well(
    url: str, manner: str, outcome: str, detail: str
) -> None:
    bad, good = target(url, f"stub:{manner}", {}), target(url, "stub", {})
    connection = BlockingConnection(good, 0.3)
    row = ask(connection, bad)
    assert (row.outcome, detail in row.detail) == (outcome, True), row.detail
    assert ask(connection, good).outcome == "ok"
    connection.close()


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        there = target(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", "m", {})
    row = ask(BlockingConnection(there, 1), there)
    assert (row.outcome, row.detail) == ("unreachable", "Connection refused")
