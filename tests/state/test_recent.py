"""The latest responses in memory: the same as the database says, or nothing."""

from typing import Any

import pytest

from serve.state.recent import Recent
from serve.state.records import ResponseRecord

NOW_S = 1000.0


def record(number: int, previous: int | None = None, **more: Any) -> ResponseRecord:
    fields: dict[str, Any] = {
        "id": f"resp_{number}",
        "tenant": "a",
        "created_s": NOW_S,
        "expires_s": None,
        "body": {"status": "completed", "output": [{"out": number}]},
        "items": ({"in": number},),
        "previous_id": None if previous is None else f"resp_{previous}",
        "conversation": None,
        "background": False,
        "request": None,
    }
    return ResponseRecord(**{**fields, **more})


@pytest.fixture
def recent() -> Recent:
    recent = Recent()
    recent.remember(record(1))
    recent.remember(record(2, previous=1))
    return recent


def test_a_chain_is_told_from_its_beginning(recent: Recent) -> None:
    assert recent.chain("a", "resp_1", NOW_S) == ({"in": 1}, {"out": 1})
    assert recent.chain("a", "resp_2", NOW_S) == ({"in": 1}, {"out": 1}, {"in": 2}, {"out": 2})


def test_what_is_not_whole_is_left_to_the_database(recent: Recent) -> None:
    assert recent.chain("a", "resp_3", NOW_S) is None
    assert recent.chain("b", "resp_2", NOW_S) is None
    recent.forget("resp_1")
    assert recent.chain("a", "resp_2", NOW_S) is None
    recent.remember(record(1, expires_s=NOW_S))
    assert recent.chain("a", "resp_2", NOW_S) is None
    assert recent.chain("a", "resp_2", NOW_S - 1) is not None
    recent.clear()
    assert recent.chain("a", "resp_2", NOW_S - 1) is None


def test_a_circle_is_left_to_the_database(recent: Recent) -> None:
    recent.remember(record(1, previous=2))
    assert recent.chain("a", "resp_2", NOW_S) is None


def test_what_was_used_longest_ago_goes_first() -> None:
    recent = Recent(max_bytes=50)
    for number in (1, 2, 3):
        recent.remember(record(number))
        assert recent.chain("a", "resp_1", NOW_S) is not None
    assert recent.chain("a", "resp_2", NOW_S) is None
    assert recent.chain("a", "resp_3", NOW_S) is not None
    recent.remember(record(4, items=({"in": "x" * 100},)))
    assert recent.chain("a", "resp_4", NOW_S) is None
    assert recent.chain("a", "resp_1", NOW_S) is None
