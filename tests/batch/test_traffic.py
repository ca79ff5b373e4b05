"""What counts as somebody else's work on a model."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.admission.context import ContextGuard
from serve.admission.gate import Gate
from serve.batch.traffic import PipelineTraffic
from serve.core.clock import SystemClock
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.served import Served
from serve.settings.model import ModelConfig, ServedModel, Source


def served(*names: str, adapters: tuple[Served, ...] = ()) -> Served:
    config = ModelConfig(name="m", source=Source(path=Path("none")), context_tokens=64)
    nobody: Any = None  # no request comes as far as an engine
    return Served(
        ServedModel(config=config), nobody, ContextGuard(64, Path("none")), "fp", 0,
        names, names[0], {}, adapters=adapters,
    )  # fmt: skip


@pytest.fixture
def gate() -> Gate:
    return Gate(9)


@pytest.fixture
def traffic(gate: Gate) -> Iterator[PipelineTraffic]:
    models = (served("a", "alias", adapters=(served("a:x"),)), served("b"))
    yield PipelineTraffic(Pipeline(models, gate, Meter(Metrics("1"), SystemClock()), 1))


def test_a_model_and_its_adapters_are_one(gate: Gate, traffic: PipelineTraffic) -> None:
    gate.enter("a:x")
    gate.enter("a", background=True)
    assert [(traffic(name).lane, traffic(name).others) for name in ("a", "alias", "a:x", "b")] == [
        ("a", 1), ("a", 1), ("a", 1), ("b", 0),
    ]  # fmt: skip
    gate.leave("a:x")
    assert traffic("alias").others == 0
    assert traffic("alias").calm_for_s < 5
    assert traffic("b").calm_for_s == math.inf


def test_a_name_that_may_be_any_model_s(gate: Gate, traffic: PipelineTraffic) -> None:
    gate.enter("b")
    assert (traffic("route").lane, traffic("route").others) == ("", 1)
