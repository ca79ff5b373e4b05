"""What is published under the names of a model: the seam between its catalogue and requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from serve.admission.context import ContextGuard
from serve.admission.routes import Choice
from serve.core.errors import InvalidRequest
from serve.core.provenance import UNKNOWN, Provenance
from serve.engines.backend import Backend
from serve.settings.model import ServedModel

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Served:
    """One model of the site, or an adapter of it, with all that answering for it needs.

    `names` are all that it answers to, `id` the pinned one; `engine_model` is what its engine
    calls it. `about` is for `/v1/models`, `headers` go with every answer. An adapter's `model` is
    its base, which keeps it in `adapters`; `refused_adapters` are folders of the base's
    `adapter_dir` that are not served, each with the reason. `provenance` is what the fingerprint
    binds.
    """

    model: ServedModel
    backend: Backend
    guard: ContextGuard
    fingerprint: str
    created_s: int
    names: tuple[str, ...]
    engine_model: str
    about: Mapping[str, Any]
    headers: Headers = ()
    adapters: tuple["Served", ...] = field(default=(), repr=False)
    refused_adapters: Mapping[Path, str] = field(default_factory=dict, repr=False)
    provenance: Provenance = UNKNOWN

    @property
    def id(self) -> str:
        """What answers carry."""
        return self.names[0]

    def check_images(self, images: int, param: str) -> None:
        """Raise InvalidRequest where a request holds more images than the model takes."""
        bound = self.model.config.images
        if images > bound:
            takes = f"at most {bound} in one request" if bound else "none"
            raise InvalidRequest(
                f"Images in this request: {images}. The model {self.id} takes {takes}.",
                param=param,
            )

    def chosen_by(self, choice: Choice) -> "Served":
        """The same, with answers that say which rule of which route chose it."""
        said = f"{choice.route}/{choice.rule} -> {self.id}".encode()
        return replace(self, headers=(*self.headers, (b"x-inhouse-route", said)))
