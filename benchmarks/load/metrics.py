"""What each figure means; the one place where rows become figures, for every driver.

Time to first token (TTFT) is from the send to the first token. Time per output token (TPOT) is the
time between first and last token over the tokens that usage reports, less one. End to end (E2E) is
from the *intended* send to the last token, so that waiting in the client counts.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from benchmarks.load.percentile import percentile
from benchmarks.load.result import Distribution, Goodput, Objective, Row, Summary

PRESETS: Final = {
    # MLPerf Inference: TTFT and TPOT in milliseconds, server and interactive.
    "llama3.1-8b:server": (2000, 100),
    "llama3.1-8b:interactive": (500, 30),
    "gpt-oss-120b:server": (3000, 80),
    "gpt-oss-120b:interactive": (2000, 15),
    "llama2-70b:server": (2000, 200),
    "llama2-70b:interactive": (450, 40),
    "deepseek-r1:server": (2000, 80),
    "deepseek-r1:interactive": (1500, 15),
}


def preset(name: str) -> Objective:
    """A preset by name. Raises KeyError."""
    ttft_ms, tpot_ms = PRESETS[name]
    return Objective(name=name, ttft_s=ttft_ms / 1000, tpot_s=tpot_ms / 1000)


def ttft_s(row: Row) -> float | None:
    """None where the answer is no stream."""
    if row.outcome != "ok":
        return math.inf
    if row.first_token_s is None or row.sent_s is None:
        return None
    return row.first_token_s - row.sent_s


def tpot_s(row: Row) -> float | None:
    """None where it is not known: no believable usage, or only one token."""
    if row.outcome != "ok":
        return math.inf
    tokens = row.completion_tokens
    if row.first_token_s is None or row.last_token_s is None or tokens is None or row.doubt:
        return None
    return None if tokens < 2 else (row.last_token_s - row.first_token_s) / (tokens - 1)


def e2e_s(row: Row) -> float | None:
    """To the last token; to the end, for an answer that is no stream."""
    if row.outcome != "ok":
        return math.inf
    last_s = row.end_s if row.last_token_s is None else row.last_token_s
    return None if last_s is None else last_s - row.intended_s


def dispatch_delay_s(row: Row) -> float | None:
    """How late it was sent; None for one that never was."""
    return None if row.sent_s is None else row.sent_s - row.intended_s


def distribution(
    rows: Sequence[Row], of: Callable[[Row], float | None], unknown: int = 0
) -> Distribution:
    """Percentiles of a figure over these rows."""
    found = [value for row in rows if (value := of(row)) is not None]
    finite = [value for value in found if math.isfinite(value)]
    failures = len(found) - len(finite)

    def at(q: float) -> float | None:
        return None if unknown else percentile(finite, q, failures)

    return Distribution(
        count=len(finite), failures=failures, unknown=unknown,
        mean=sum(finite) / len(finite) if finite else None,
        p50=at(0.5), p95=at(0.95), p99=at(0.99), p999=at(0.999),
        raw_p50=percentile(finite, 0.5), raw_p95=percentile(finite, 0.95),
        raw_p99=percentile(finite, 0.99),
    )  # fmt: skip


def summary(rows: Sequence[Row], window_s: float, objective: Objective | None) -> Summary:
    """All figures. `window_s`: over how long the requests were offered."""
    sent = [row for row in rows if row.outcome != "unsent" or row.sent_s is not None]
    good = [row for row in sent if row.outcome == "ok"]
    tokens = [row.completion_tokens for row in good if not row.doubt]
    return Summary(
        sent=len(sent),
        outcomes=dict(sorted(Counter(row.outcome for row in rows).items())),
        offered_per_s=len(rows) / window_s,
        window_s=window_s,
        ttft=distribution(sent, ttft_s),
        tpot=distribution(sent, tpot_s, unknown=sum(map(_without_usage, good))),
        e2e=distribution(sent, e2e_s),
        dispatch_delay=distribution(sent, dispatch_delay_s),
        output_tokens_per_s=_output_rate(good, tokens),
        cached_ratio=cached_ratio(good),
        doubted=sum(row.doubt is not None for row in good),
        goodput=None if objective is None else goodput(sent, window_s, objective),
    )


def meets(row: Row, objective: Objective) -> bool:
    """Whether it kept every objective. One that does not say its tokens cannot show that it did;
    one with a single token has no time between tokens to keep. An answer that is no stream must be
    there, whole, when a first token would have to be."""
    if row.outcome == "ok" and not row.token_chunks and row.end_s is not None:
        return row.sent_s is not None and row.end_s - row.sent_s <= objective.ttft_s
    first, between = ttft_s(row), tpot_s(row)
    if first is None or first > objective.ttft_s:
        return False
    if between is None:
        return row.completion_tokens == 1 and not row.doubt
    return between <= objective.tpot_s


def goodput(sent: Sequence[Row], window_s: float, objective: Objective) -> Goodput:
    """Requests that met every objective, a second, and as a share of all sent."""
    met = sum(meets(row, objective) for row in sent)
    return Goodput(
        objective=objective, met=met, per_s=met / window_s,
        attainment=met / len(sent) if sent else 0.0,
    )  # fmt: skip


def cached_ratio(rows: Iterable[Row]) -> float | None:
    """Cached over all prompt tokens; None where any answer does not say: absent is not zero."""
    cached = prompt = 0
    for row in rows:
        if row.cached_tokens is None or row.prompt_tokens is None:
            return None
        cached += row.cached_tokens
        prompt += row.prompt_tokens
    return cached / prompt if prompt else None


def _without_usage(row: Row) -> bool:
    return row.token_chunks > 0 and (row.completion_tokens is None or row.doubt is not None)


def _output_rate(good: Sequence[Row], tokens: Sequence[int | None]) -> float | None:
    """Tokens over the time from the first send to the last end; None where any is not known."""
    known = [one for one in tokens if one is not None]
    begins = [row.sent_s for row in good if row.sent_s is not None]
    ends = [row.end_s for row in good if row.end_s is not None]
    if not known or len(known) < len(good) or not begins or not ends:
        return None
    took_s = max(ends) - min(begins)
    return sum(known) / took_s if took_s > 0 else None
