import pytest

from benchmarks.load.result import Client, Row
from benchmarks.load.validity import client_bound, lag_p99_s, peak


def client(**changed: float | None) -> Client:
    values = {"lag_p99_s": 0.004, "lag_max_s": 1.0, "cpu_share": 0.5, "chunks_per_s_peak": 500.0,
              "ceiling_chunks_per_s": 1000.0, "connections": 1}  # fmt: skip
    return Client.model_validate(values | changed)


def test_up_to_half_of_what_it_can_take_a_client_is_believed() -> None:
    assert client_bound(client()) == []
    assert client_bound(client(ceiling_chunks_per_s=None, chunks_per_s_peak=1e9)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lag_p99_s": 0.0051}, "5.1 ms late at p99"),
        ({"cpu_share": 0.51}, "51% of its core"),
        ({"chunks_per_s_peak": 501.0}, "more than half of its ceiling of 1,000"),
    ],
)
def test_above_it_is_not(changed: dict[str, float], said: str) -> None:
    (mark,) = client_bound(client(**changed))
    assert mark.startswith("client-bound: ") and said in mark


def test_lag_is_the_99th_of_a_hundred() -> None:
    assert lag_p99_s([0.0] * 99 + [1.0]) == 0.0
    assert lag_p99_s([0.0] * 98 + [1.0] * 2) == 1.0
    assert lag_p99_s([0.25]) == 0.25
    assert lag_p99_s([]) == 0.0


def test_the_busiest_second_is_that_of_the_clock() -> None:
    def row(first_s: float, gaps_s: tuple[float, ...]) -> Row:
        return Row(
            id=0, outcome="ok", intended_s=0, first_token_s=first_s, gaps_s=gaps_s,
            last_token_s=first_s + sum(gaps_s), token_chunks=len(gaps_s) + 1,
        )  # fmt: skip

    rows = [row(0.5, (0.25, 0.5, 0.25)), row(1.5, (2.0,))]
    assert peak(rows) == 3  # 1.25, 1.5 and the other's 1.5
    assert peak([row.model_copy(update={"gaps_s": ()}) for row in rows]) == 3
    assert peak([]) == 0
