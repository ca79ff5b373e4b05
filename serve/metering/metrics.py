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
        self.requests = Counter(
            "inhouse_requests",
            "Requests by how they ended.",
            ["model", "endpoint", "outcome"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "inhouse_requests_in_flight",
            "Requests admitted and not yet ended.",
            ["model"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "inhouse_tokens",
            "Tokens by kind: prompt, cached (part of prompt), completion, reasoning.",
            ["model", "kind"],
            registry=self.registry,
        )
        self.ttft = self._histogram("ttft", "From receipt to the first token.", _SECONDS)
        self.tpot = self._histogram("tpot", "Between tokens after the first.", _TOKEN_SECONDS)
        self.e2e = self._histogram("e2e", "From receipt to the end of the answer.", _SECONDS)
        self.queue = self._histogram("queue", "From receipt to admission.", _SECONDS)
        self.engine_state = Gauge(
            "inhouse_engine_state",
            "1 for the state an engine is in, 0 for the others.",
            ["model", "state"],
            registry=self.registry,
        )
        self.engine_restarts = Counter(
            "inhouse_engine_restarts",
            "Engine processes replaced after a crash.",
            ["model"],
            registry=self.registry,
        )
        self.engine_hangs = Counter(
            "inhouse_engine_hangs",
            "Engine processes killed because they made no step any more.",
            ["model"],
            registry=self.registry,
        )
        self.model_loads = Counter(
            "inhouse_model_loads",
            "Engines that came to answer because a request or an operator wanted them.",
            ["model", "how"],
            registry=self.registry,
        )
        self.model_evictions = Counter(
            "inhouse_model_evictions",
            "Engines put out for lack of memory or of requests.",
            ["model", "how"],
            registry=self.registry,
        )
        self.model_load_seconds = Histogram(
            "inhouse_model_load_seconds",
            "From the order to load or wake an engine until it answers.",
            ["model", "how"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.model_waiting = Gauge(
            "inhouse_model_waiting_requests",
            "Requests that wait for an engine to be loaded or woken.",
            ["model"],
            registry=self.registry,
        )
        self.lines_now: Callable[[], Mapping[tuple[str, str], int]] = dict
        """Who tells how many requests wait for a turn, by model and class; asked at each scrape."""
        self.queue_waiting = Gauge(
            "inhouse_queue_waiting_requests",
            "Requests that wait for their turn on an engine.",
            ["model", "class"],
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "inhouse_queue_wait_seconds",
            "From admission to the turn on an engine.",
            ["model", "class"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches_now: Callable[[], Mapping[str, int]] = dict
        """Who tells how many batches are unfinished, by status; asked at each scrape."""
        self.batch_lines = Counter(
            "inhouse_batch_lines",
            "Lines of batches by how they ended.",
            ["outcome"],
            registry=self.registry,
        )
        self.batches = Gauge(
            "inhouse_batches", "Unfinished batches.", ["status"], registry=self.registry
        )
        self.tool_calls = Counter(
            "inhouse_tool_calls",
            "Calls of the site's tool servers by how they ended.",
            ["server", "tool", "outcome"],
            registry=self.registry,
        )
        self.tool_call_seconds = Histogram(
            "inhouse_tool_call_seconds",
            "What each of these took, the wait for a place among them.",
            ["server", "tool"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.ledger_now: Callable[[], tuple[int, bool]] | None = None
        """Who tells how many records wait for the database, and whether any can be made; asked at
        each scrape."""
        self.ledger_pending = Gauge(
            "inhouse_ledger_pending_records",
            "Records of ended requests that the database does not have yet.",
            registry=self.registry,
        )
        self.ledger_failing = Gauge(
            "inhouse_ledger_failing",
            "1 while records, or room for them, cannot be written; requests are refused in time.",
            registry=self.registry,
        )
        build = Gauge("inhouse_build_info", "Always 1.", ["version"], registry=self.registry)
        build.labels(version).set(1)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"inhouse_request_{name}_seconds",
            text,
            ["model"],
            buckets=buckets,
            registry=self.registry,
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
        return generate_latest(self.registry)
