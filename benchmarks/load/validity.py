"""Whether a run can be believed, and what it says in one line.

The client is the first suspect: one that is late itself reports its lateness as the server's.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import Final

from benchmarks.load.openloop import Run
from benchmarks.load.result import Client, Distribution, Row, Summary

LAG_P99_MAX_S: Final = 0.005
CEILING_SHARE_MAX: Final = 0.5
CPU_SHARE_MAX: Final = 0.5
"""A client that is busy for more than half of its core is above half of its ceiling."""


def client_of(run: Run, ceiling_chunks_per_s: float | None) -> Client:
    """How the client did in a run."""
    return Client(
        lag_p99_s=lag_p99_s(run.lags_s), lag_max_s=max(run.lags_s, default=0.0),
        cpu_share=run.cpu_s / max(run.took_s, 1e-9), chunks_per_s_peak=peak(run.rows),
        ceiling_chunks_per_s=ceiling_chunks_per_s, connections=run.connections,
    )  # fmt: skip


def lag_p99_s(lags_s: Collection[float]) -> float:
    """How late the loop was, by nearest rank; under a hundred samples, its worst."""
    ordered = sorted(lags_s)
    return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else 0.0


def peak(rows: Iterable[Row]) -> float:
    """Chunks with tokens in the busiest second; those of a row without gaps spread evenly."""
    seconds: Counter[int] = Counter()
    for row in rows:
        if row.first_token_s is None or row.last_token_s is None:
            continue
        if row.gaps_s or row.token_chunks == 1:
            seconds.update(map(int, accumulate(row.gaps_s, initial=row.first_token_s)))
            continue
        gap_s = (row.last_token_s - row.first_token_s) / (row.token_chunks - 1)
        seconds.update(int(row.first_token_s + n * gap_s) for n in range(row.token_chunks))
    return float(max(seconds.values(), default=0))


def client_bound(client: Client) -> list[str]:
    """Why the client, and not the target, may be what was measured; empty where it was not."""
    found = []
    if client.lag_p99_s > LAG_P99_MAX_S:
        found.append(
            f"client-bound: its loop was {client.lag_p99_s * 1000:.1f} ms late at p99 "
            f"(at most {LAG_P99_MAX_S * 1000:.0f})"
        )
    if client.cpu_share > CPU_SHARE_MAX:
        found.append(
            f"client-bound: it used {client.cpu_share:.0%} of its core (at most "
            f"{CPU_SHARE_MAX:.0%})"
        )
    ceiling = client.ceiling_chunks_per_s
    if ceiling is not None and client.chunks_per_s_peak > ceiling * CEILING_SHARE_MAX:
        found.append(
            f"client-bound: {client.chunks_per_s_peak:,.0f} chunks in its busiest second, more "
            f"than half of its ceiling of {ceiling:,.0f}"
        )
    return found


def marks(
    rows: Sequence[Row], figures: Summary, client: Client, *, gave_up: bool, stopped: bool
) -> tuple[list[str], list[str]]:
    """What makes the run invalid, and what else must be known to read it."""
    bad, notes = client_bound(client), []
    if stopped:
        bad.append("stopped before its end")
    if gave_up:
        bad.append(f"given up: the first {figures.sent} requests all failed")
    elif figures.outcomes.get("unsent") and not stopped:
        bad.append(f"client-bound: no connection left for {figures.outcomes['unsent']} requests")
    if not figures.outcomes.get("ok"):
        said = Counter(row.detail for row in rows if row.detail).most_common(1)
        bad.append("no request was answered" + (f": {said[0][0]}" if said else ""))
    if figures.doubted:
        notes.append(
            f"tokens not believed: {figures.doubted} answers without usage, or with one that "
            "cannot be; TPOT and tokens/s are withheld"
        )
    return bad, notes


def verdict(figures: Summary, bad: list[str], notes: list[str]) -> str:
    """The run in one line, for people."""
    ok = figures.outcomes.get("ok", 0)
    failed = {word: n for word, n in figures.outcomes.items() if word not in ("ok", "unsent")}
    said = [f"{figures.sent} sent, {ok} answered"]
    said += [f"{count} {word.replace('_', ' ')}" for word, count in failed.items()]
    said += [f"{name} {_shown(one)}" for name, one in
             (("TTFT", figures.ttft), ("TPOT", figures.tpot), ("E2E", figures.e2e))]  # fmt: skip
    if figures.goodput is not None:
        good = figures.goodput
        said.append(f"goodput {good.per_s:.2f}/s ({good.attainment:.1%} of all sent)")
    head = "valid" if not bad else f"INVALID ({'; '.join(bad)})"
    return "; ".join([head, *notes, ", ".join(said)])


def _shown(one: Distribution) -> str:
    found = [f"p{name} {_ms(value)}" for name, value in
             (("50", one.p50), ("95", one.p95), ("99", one.p99)) if value is not None]  # fmt: skip
    return " ".join(found) or "withheld"


def _ms(value: float) -> str:
    return "∞" if value == float("inf") else f"{value * 1000:.1f} ms"
