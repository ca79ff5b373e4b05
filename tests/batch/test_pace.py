"""What lines may run, and when one is tried again."""

import math

import pytest

from serve.batch.pace import RETRY_MAX_S, Seen, is_temporary, lines_allowed, retry_in_s
from serve.settings.batches import Batches

SETTINGS = Batches(concurrent_lines=16, lines_beside=2, calm_s=3)


@pytest.mark.parametrize(
    ("others", "calm_for_s", "allowed"),
    [
        (0, math.inf, 16),
        (0, 3, 16),
        (0, 2.9, 2),
        (1, 0, 2),
        (1, math.inf, 2),
        (500, 100, 2),
    ],
)
def test_lines_give_way(others: int, calm_for_s: float, allowed: int) -> None:
    assert lines_allowed(SETTINGS, Seen("m", others, calm_for_s)) == allowed


def test_no_more_beside_others_than_alone() -> None:
    settings = Batches(concurrent_lines=1, lines_beside=4)
    assert lines_allowed(settings, Seen("m", 1, 0)) == 1


def test_batches_may_have_to_wait() -> None:
    assert lines_allowed(Batches(lines_beside=0), Seen("m", 1, 0)) == 0


def test_what_may_do_better_later() -> None:
    assert [one for one in (200, 400, 401, 404, 413, 429, 500, 503) if is_temporary(one)] == [
        429, 503,
    ]  # fmt: skip


def test_tries_come_further_and_further_apart() -> None:
    assert [retry_in_s(tries, None, 0) for tries in (1, 2, 3, 4)] == [0.5, 1, 2, 4]
    assert retry_in_s(1, 30, 0) == 30
    assert retry_in_s(1, 30, 1) == 37.5
    assert retry_in_s(10_000, 9999, 0) == RETRY_MAX_S
