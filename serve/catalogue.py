"""What clients may ask for: each model of a site, and its adapters, under the names they have."""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from serve.admission.context import ContextGuard
from serve.core.provenance import Provenance
from serve.engines.adapters import Adapted, engine_name
from serve.engines.backend import Backend
from serve.engines.fingerprint import config_digest, fingerprint
from serve.engines.shelf import Found, Shelf
from serve.served import Headers, Served
from serve.settings.model import ServedModel
from serve.settings.names import names_of
from serve.weights.ledger import Ledger


class Catalogue:
    """Makes what a pipeline publishes. Reads weights, so use it outside the event loop.

    `engine` is the version of what runs the models; `fake` engines have no weights.
    """

    def __init__(self, var_dir: Path, engine: str, *, fake: bool = False) -> None:
        self._ledger = Ledger(var_dir / "cache" / "digests.json")
        self.shelf = Shelf(var_dir / "cache" / "adapters", self._ledger)
        self._engine = engine
        self._fake = fake
        self._began_s = time.time()
        self._reading = threading.RLock()  # one look at the files at a time

    def served(self, pairs: Sequence[tuple[ServedModel, Backend]]) -> tuple[Served, ...]:
        """Every model with its backend and its adapters, under the names it has among them all.

        Raises SettingsError for an adapter of a model file that cannot be served.
        """
        names = names_of([model.entry for model, _ in pairs])
        with self._reading:
            bases = (
                self._model(model, backend, own)
                for (model, backend), own in zip(pairs, names, strict=True)
            )
            return tuple(self._with_adapters(one) for one in bases)

    def looked_again(self, served: Sequence[Served]) -> tuple[Served, ...]:
        """The same models with their adapters as they lie there now; what has not changed, of
        models and of adapters, stays the same object.

        Raises SettingsError for an adapter of a model file that cannot be served any more.
        """
        with self._reading:
            return tuple(self._with_adapters(one) if one.model.adaptable else one for one in served)

    def _with_adapters(self, base: Served) -> Served:
        contents = self.shelf.look(base.model.config, weightless=self._weightless(base.model))
        adapters = self._adapters(base, contents.found)
        return replace(base, adapters=adapters, refused_adapters=contents.refused)

    def _adapters(self, base: Served, found: Sequence[Found]) -> tuple[Served, ...]:
        before = {one.engine_model: one for one in base.adapters}
        made = (
            self._adapter(base, one, own)
            for one, own in zip(found, names_of([one.entry for one in found]), strict=True)
        )
        return tuple(
            old if (old := before.get(one.engine_model)) and old.names == one.names else one
            for one in made
        )

    def fingerprint(self, model: ServedModel) -> str:
        """What `served` would give this model now; raises SettingsError where it would."""
        with self._reading:
            self.shelf.check(model.config, weightless=self._weightless(model))
            return fingerprint(model.config, self._digest(model), self._version(model))

    def tidy(self, served: Sequence[Served]) -> None:
        """Remove copies of adapters that none of these has; call while no engine runs."""
        self.shelf.tidy({str(one.about["digest"]) for base in served for one in base.adapters})

    def _model(self, model: ServedModel, backend: Backend, names: tuple[str, ...]) -> Served:
        config = model.config
        folder = config.source.path
        digest = self._digest(model)
        return Served(
            model=model,
            backend=backend,
            guard=ContextGuard(config.context_tokens, folder / "tokenizer.json"),
            fingerprint=fingerprint(config, digest, self._version(model)),
            created_s=self._created_s(model.snapshot, folder / "config.json"),
            names=names,
            engine_model=model.id,
            about=_about(model, names, digest),
            headers=deprecation(model),
            provenance=Provenance(digest, None, config_digest(config), self._version(model)),
        )

    def _digest(self, model: ServedModel) -> str | None:
        """The digest of the weights, None where a fake one, or one elsewhere, says none."""
        given = model.config.source.digest
        if given is not None or model.engine is not None or self._weightless(model):
            return given
        return self._ledger.digest(model.config.source.path)

    def _adapter(self, base: Served, found: Found, own: tuple[str, ...]) -> Served:
        names = tuple(f"{one}:{name}" for one in base.names for name in own)
        name = engine_name(names[0], found.digest)
        weights = base.about["digest"]
        made_s = self._created_s(found.entry.snapshot, found.folder / "adapter_config.json")
        return Served(
            model=base.model,
            backend=Adapted(base.backend, name, found.folder),
            guard=base.guard,
            fingerprint=fingerprint(base.model.config, weights, self._engine, found.digest),
            created_s=made_s,
            names=names,
            engine_model=name,
            about=_about(base.model, names, found.digest) | {"base": base.id, "rank": found.rank},
            headers=base.headers,
            provenance=replace(base.provenance, adapter=found.digest, engine=self._engine),
        )

    def _version(self, model: ServedModel) -> str:
        """Of what runs the model; of a server elsewhere only its name for the model is known."""
        remote = model.engine
        return self._engine if remote is None else f"remote {remote.model or model.config.name}"

    def _weightless(self, model: ServedModel) -> bool:
        """Whether this is a fake of a model whose weights are not here."""
        return self._fake and not model.config.source.path.is_dir()

    def _created_s(self, snapshot: date | None, file: Path) -> int:
        """Unix time of the snapshot's date, else of the file, else of the start."""
        if snapshot is not None:
            return int(_midnight(snapshot).timestamp())
        with contextlib.suppress(OSError):
            return int(file.stat().st_mtime)
        return int(self._began_s)


def deprecation(model: ServedModel) -> Headers:
    """Headers of a deprecated model's answers: `deprecation` (RFC 9745), `sunset` (RFC 8594)."""
    headers = []
    if model.deprecated is not None:
        headers.append((b"deprecation", b"@%d" % _midnight(model.deprecated).timestamp()))
    if model.sunset is not None:
        at = format_datetime(_midnight(model.sunset), usegmt=True)
        headers.append((b"sunset", at.encode()))
    return tuple(headers)


def _about(model: ServedModel, names: tuple[str, ...], digest: str | None) -> dict[str, Any]:
    """What `/v1/models` says beyond the hosted API's fields."""
    return {
        "snapshot": names[0],
        "aliases": names[1:],
        "task": model.config.task,
        "context_tokens": model.config.context_tokens,
        "digest": digest,
        "deprecated": model.deprecated,
        "sunset": model.sunset,
        "replaced_by": model.replaced_by,
    }


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
