"""What is written down of models: each state that one comes to, and why one was put out."""

from typing import Protocol

from serve.core.audit import Trail


class Observer(Protocol):
    """Who is told too."""

    def model_loaded(self, model_id: str, verb: str, took_s: float) -> None: ...

    def model_evicted(self, model_id: str, verb: str) -> None: ...


class Swaps:
    """Writes down loads and evictions; `also` is told of them as well."""

    def __init__(self, trail: Trail, also: Observer) -> None:
        self._trail = trail
        self._also = also

    def model_loaded(self, model_id: str, verb: str, took_s: float) -> None:
        self._also.model_loaded(model_id, verb, took_s)
        fields = {"model": model_id, "how": verb, "took_s": round(took_s, 3)}
        self._trail.record("model.loaded", fields)

    def model_evicted(self, model_id: str, verb: str) -> None:
        self._also.model_evicted(model_id, verb)
        self._trail.record("model.evicted", {"model": model_id, "how": verb})
