"""Every exit path leaves one record, and figures are what the timeline says."""

import logging

import pytest

from serve import log
from serve.core.call import Call, Principal
from serve.core.usage import Usage
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics


class SetClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


def call(**changes: object) -> Call:
    fields = {
        "request_id": "req_1", "endpoint": "chat.completions", "path": "/", "model_id": "m",
        "principal": Principal("k"), "body": {"messages": "secret prompt"}, "choices": 1,
        "include_usage": False, "received_s": 100.0,
    }  # fmt: skip
    return Call(**(fields | changes))  # type: ignore[arg-type]  # a test's short cut


def test_ttft_tpot_and_tokens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_direct", False)  # as before any server set logging up
    clock, metrics = SetClock(), Metrics("1")
    meter = Meter(metrics, clock)
    timeline = meter.open(call())
    clock.now_s = 100.5
    meter.tokens(timeline)
    clock.now_s = 101.5
    meter.tokens(timeline)
    timeline.usage = Usage(prompt=7, completion=11, cached=5, reasoning=2)
    clock.now_s = 102.0
    with caplog.at_level(logging.INFO):
        meter.settle(call(), timeline)
    value = metrics.registry.get_sample_value
    model = {"model": "m"}
    assert value("inhouse_request_ttft_seconds_sum", model) == pytest.approx(0.5)
    assert value("inhouse_request_tpot_seconds_sum", model) == pytest.approx(0.1)
    assert value("inhouse_request_e2e_seconds_sum", model) == pytest.approx(2.0)
    assert value("inhouse_tokens_total", model | {"kind": "cached"}) == 5
    assert value("inhouse_tokens_total", model | {"kind": "completion"}) == 11
    assert value("inhouse_requests_in_flight", model) == 0
    record = caplog.records[-1].__dict__
    assert record["request_id"] == "req_1"
    assert record["ttft_ms"] == 500.0
    assert "secret" not in str(record)


def test_a_cancelled_request_is_counted_as_one() -> None:
    metrics = Metrics("1")
    meter = Meter(metrics, SetClock())
    timeline = meter.open(call())
    timeline.outcome = "cancelled"
    meter.settle(call(), timeline)
    labels = {"model": "m", "endpoint": "chat.completions", "outcome": "cancelled"}
    assert metrics.registry.get_sample_value("inhouse_requests_total", labels) == 1
    assert (
        metrics.registry.get_sample_value("inhouse_request_ttft_seconds_count", {"model": "m"}) == 0
    )
