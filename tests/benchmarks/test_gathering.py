import pytest

from benchmarks.load import gathering
from benchmarks.load.gathering import Gathering
from benchmarks.load.metrics import tpot_s, ttft_s
from benchmarks.load.result import Row

ROW = Row(
    id=7, outcome="ok", status=200, intended_s=1, sent_s=1, first_token_s=1.25, last_token_s=2.25,
    end_s=2.5, token_chunks=3, gaps_s=(0.5, 0.5), completion_tokens=11, headers={"x": "y"},
)  # fmt: skip


def test_workers_rows_are_merged_once_each_and_whole_but_for_their_gaps() -> None:
    master, workers = Gathering(), [Gathering(), Gathering()]
    for number, worker in enumerate(workers):
        for _ in range(2):
            worker.add(ROW)
            worker.lags_s.append(number / 1000)
            master.merge(f"w{number}", worker.report(cpu_share=number / 10))
    assert [row.id for row in master.rows] == [0, 1, 2, 3]
    assert {(ttft_s(row), tpot_s(row), row.gaps_s) for row in master.rows} == {(0.25, 0.1, ())}
    client = master.client(9.9, None)
    assert (client.cpu_share, client.lag_max_s) == (0.1, 0.001)  # the worst worker's
    assert client.chunks_per_s_peak == 8  # in the second from 1 s on: two of each row's three


def test_a_process_alone_reports_itself() -> None:
    alone = Gathering(connections=3)
    alone.add(ROW)
    alone.lags_s.extend([0.001, 0.004])
    client = alone.client(0.25, 100.0)
    assert (client.cpu_share, client.connections, client.lag_p99_s) == (0.25, 3, 0.004)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ROWS_MAX", 2)
    full = Gathering()
    full.add(ROW)
    assert not full.full
    full.add(ROW)
    assert full.full
