"""Looks on while engines change, for the metrics and for the audit log."""

from serve.core.audit import Trail
from serve.engines.backend import Backend
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.settings.model import ServedModel


class Swaps:
    """Writes down loads and evictions, which `also` counts (`serve.engines.portfolio.Observer`)."""

    def __init__(self, trail: Trail, also: Metrics) -> None:
        self._trail = trail
        self._also = also

    def model_loaded(self, model_id: str, verb: str, took_s: float) -> None:
        self._also.model_loaded(model_id, verb, took_s)
        fields = {"model": model_id, "how": verb, "took_s": round(took_s, 3)}
        self._trail.record("model.loaded", fields)

    def model_evicted(self, model_id: str, verb: str) -> None:
        self._also.model_evicted(model_id, verb)
        self._trail.record("model.evicted", {"model": model_id, "how": verb})


def watch(
    backend: Backend, model: ServedModel, metrics: Metrics, pipeline: Pipeline, trail: Trail
) -> None:
    """Count a model's restarts, and write down each state that it comes to."""
    model_id = model.id
    metrics.engine_restarts.labels(model_id)
    metrics.engine_hangs.labels(model_id)
    restarts = hangs = 0
    state = backend.status.state

    def on_change() -> None:
        nonlocal restarts, hangs, state
        status = backend.status
        # Two engines of a model live side by side for a while; its state is that of the one asked.
        if any(one.backend is backend for one in pipeline.served):
            metrics.set_engine_state(model_id, status.state)
        if status.restarts > restarts:
            metrics.engine_restarts.labels(model_id).inc(status.restarts - restarts)
            restarts = status.restarts
        if status.hangs > hangs:
            metrics.engine_hangs.labels(model_id).inc(status.hangs - hangs)
            hangs = status.hangs
        if status.state is not state:
            state = status.state
            trail.record("model.state", {
                "model": model_id, "state": str(state), "pid": status.pid,
                "generation": status.generation, "restarts": status.restarts,
                "weights": model.config.source.digest, "error": status.last_error,
            })  # fmt: skip

    backend.subscribe(on_change)
    on_change()
