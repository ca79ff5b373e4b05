"""Whether a server says that it is ready."""

from serve.admission.gate import Gate
from serve.api.health import readiness
from serve.core.clock import SystemClock
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline


def test_engines_alone_make_no_server_ready() -> None:
    pipeline = Pipeline((), Gate(8), Meter(Metrics("1"), SystemClock()), 1)
    pipeline.gate.opening = True
    assert readiness(pipeline)["status"] == "not_ready"
    pipeline.gate.opening = False
    assert readiness(pipeline)["status"] == "ready"
    pipeline.gate.drain()
    assert readiness(pipeline)["status"] == "draining"
