"""The `inhouse_*` series; docs/metrics.md defines them."""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
_TOKEN_SECONDS: Final = (
    0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0,
)  # fmt: skip

ENGINE_STATES: Final = ("stopped", "starting", "ready", "sleeping", "failed")


class Metrics:
    """Every series of one server, in a registry of its own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.waiting_now: Callable[[], Mapping[str, int]] = dict
        """Who tells how many requests wait for each model; asked at each scrape."""
        self.lines_now: Callable[[], Mapping[tuple[str, str], int]] = dict
        """Who tells how many requests wait for a turn, by model and class; asked at each scrape."""
        self.batches_now: Callable[[], Mapping[str, int]] = dict
        """Who tells how many batches are unfinished, by status; asked at each scrape."""
        self.ledger_now: Callable[[], tuple[int, bool]] | None = None
        """Who tells how many records wait for the database, and whether any can be made; asked at
        each scrape."""
        self.audit_now: Callable[[], tuple[Mapping[str, int], bool, bool, int]] | None = None
        """Who tells how the audit log does; asked at each scrape."""
        self._of_requests()
        self._of_engines()
        self._of_queues()
        self._of_work()
        self._of_audit()
        self._gauge("build_info", "Always 1.", "version").labels(version).set(1)

    def _of_requests(self) -> None:
        self.requests = self._counter(
            "requests", "Requests by how they ended.", "model", "endpoint", "outcome"
        )
        self.in_flight = self._gauge(
            "requests_in_flight", "Requests admitted and not yet ended.", "model"
        )
        self.tokens = self._counter(
            "tokens",
            "Tokens by kind: prompt, cached (part of prompt), completion, reasoning.",
            "model",
            "kind",
        )
        self.ttft = self._seconds("request_ttft", "From receipt to the first token.", "model")
        self.tpot = self._seconds(
            "request_tpot", "Between tokens after the first.", "model", buckets=_TOKEN_SECONDS
        )
        self.e2e = self._seconds("request_e2e", "From receipt to the end of the answer.", "model")
        self.queue = self._seconds("request_queue", "From receipt to admission.", "model")

    def _of_engines(self) -> None:
        self.engine_state = self._gauge(
            "engine_state", "1 for the state an engine is in, 0 for the others.", "model", "state"
        )
        self.engine_restarts = self._counter(
            "engine_restarts", "Engine processes replaced after a crash.", "model"
        )
        self.engine_hangs = self._counter(
            "engine_hangs", "Engine processes killed because they made no step any more.", "model"
        )
        self.model_loads = self._counter(
            "model_loads",
            "Engines that came to answer because a request or an operator wanted them.",
            "model",
            "how",
        )
        self.model_evictions = self._counter(
            "model_evictions", "Engines put out for lack of memory or of requests.", "model", "how"
        )
        self.model_load_seconds = self._seconds(
            "model_load", "From the order to load or wake an engine until it answers.",
            "model", "how",
        )  # fmt: skip

    def _of_queues(self) -> None:
        self.model_waiting = self._gauge(
            "model_waiting_requests",
            "Requests that wait for an engine to be loaded or woken.",
            "model",
        )
        self.queue_waiting = self._gauge(
            "queue_waiting_requests",
            "Requests that wait for their turn on an engine.",
            "model",
            "class",
        )
        self.queue_wait = self._seconds(
            "queue_wait", "From admission to the turn on an engine.", "model", "class"
        )

    def _of_work(self) -> None:
        self.batch_lines = self._counter(
            "batch_lines", "Lines of batches by how they ended.", "outcome"
        )
        self.batches = self._gauge("batches", "Unfinished batches.", "status")
        self.tool_calls = self._counter(
            "tool_calls", "Calls of the site's tool servers by how they ended.",
            "server", "tool", "outcome",
        )  # fmt: skip
        self.tool_call_seconds = self._seconds(
            "tool_call", "What each of these took, the wait for a place among them.",
            "server", "tool",
        )  # fmt: skip
        self.ledger_pending = self._gauge(
            "ledger_pending_records",
            "Records of ended requests that the database does not have yet.",
        )
        self.ledger_failing = self._gauge(
            "ledger_failing",
            "1 while records, or room for them, cannot be written; requests are refused in time.",
        )

    def _of_audit(self) -> None:
        self.audit_records = self._counter("audit_records", "Records of the audit log.", "kind")
        self._audit_told: dict[str, int] = {}
        self.audit_failing = self._gauge(
            "audit_failing", "1 while the audit log cannot be written; requests are refused."
        )
        self.audit_export_failing = self._gauge(
            "audit_export_failing", "1 while its checkpoints cannot be signed or exported."
        )
        self.audit_unchecked = self._gauge(
            "audit_unchecked_records", "Its records that no exported checkpoint is signed after."
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"inhouse_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"inhouse_{name}", text, labels, registry=self.registry)

    def _seconds(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        return Histogram(
            f"inhouse_{name}_seconds", text, labels, buckets=buckets, registry=self.registry
        )

    def set_engine_state(self, model_id: str, state: str) -> None:
        for name in ENGINE_STATES:
            self.engine_state.labels(model_id, name).set(1 if name == state else 0)

    def model_loaded(self, model_id: str, verb: str, took_s: float) -> None:
        """See `serve.engines.portfolio.Observer`."""
        self.model_loads.labels(model_id, verb).inc()
        self.model_load_seconds.labels(model_id, verb).observe(took_s)

    def model_evicted(self, model_id: str, verb: str) -> None:
        """See `serve.engines.portfolio.Observer`."""
        self.model_evictions.labels(model_id, verb).inc()

    def batch_line(self, outcome: str) -> None:
        """See `serve.batch.ports.Observer`."""
        self.batch_lines.labels(outcome).inc()

    def tool_called(self, server: str, tool: str, outcome: str, took_s: float) -> None:
        """See `serve.toolservers.records.Observer`."""
        self.tool_calls.labels(server, tool, outcome).inc()
        if outcome != "refused":
            self.tool_call_seconds.labels(server, tool).observe(took_s)

    def exposition(self) -> bytes:
        """Text exposition format 0.0.4."""
        self.model_waiting.clear()
        for model_id, count in self.waiting_now().items():
            self.model_waiting.labels(model_id).set(count)
        for (model_id, kind), count in self.lines_now().items():
            self.queue_waiting.labels(model_id, kind).set(count)
        for status, count in self.batches_now().items():
            self.batches.labels(status).set(count)
        if self.ledger_now is not None:
            pending, failing = self.ledger_now()
            self.ledger_pending.set(pending)
            self.ledger_failing.set(failing)
        if self.audit_now is not None:
            counts, failing, export_failing, ahead = self.audit_now()
            for kind, count in counts.items():
                self.audit_records.labels(kind).inc(count - self._audit_told.get(kind, 0))
            self._audit_told = dict(counts)
            self.audit_failing.set(failing)
            self.audit_export_failing.set(export_failing)
            self.audit_unchecked.set(ahead)
        return generate_latest(self.registry)
