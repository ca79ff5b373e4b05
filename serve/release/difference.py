"""What differs between two sites, setting by setting, and what each difference takes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from serve.settings.model import Placement, ServedModel
from serve.settings.site import Site

NEEDS_RESTART: Final = (
    "listen", "var_dir", "admin", "engine_defaults.kind", "state.database", "state.password_file",
    "audit",
)  # fmt: skip
"""Settings that the whole process was built on: a site that changes them is refused."""
AT_NEXT_START: Final = ("memory", "engine_defaults.standby", "log.format")
"""Settings that are read once, when the server starts: a change of them waits for that."""
FOR_NEW_ENGINES: Final = (
    "engine_defaults.start_timeout_s", "engine_defaults.hang_idle_s",
    "engine_defaults.hang_loaded_s", "engine_defaults.progress_every_s",
)  # fmt: skip
"""Settings that each engine is started with; they are not worth replacing it."""
AT_ONCE: Final = (
    "site", "auth", "limits", "routes", "reload", "log.level", "engine_defaults.drain_timeout_s",
    "state.ttl_days", "state.tenants", "files", "batches", "tool_servers", "prices",
    "idempotency",
)  # fmt: skip
"""Settings that apply from the moment at which the traffic moves."""

_PUBLISHED: Final = frozenset({"adapters", "adapter_dir", "evals"})
"""Of a model file: what is looked up when it is published or replaced, not by its engine."""
_OF_ENGINE: Final = frozenset({"snapshot", "replicas", "engine"})
"""Of a placement: what an engine is started with. A snapshot is in the name it is started under."""

_SHOWN_CHARS_MAX: Final = 60


def changed_settings(old: Site, new: Site, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """`listen.port: 8000 → 8001`, for each setting below these that differs."""
    before, after = _flat(_plain(old)), _flat(_plain(new))
    return tuple(
        one for prefix in prefixes for one in _changes(before, after) if _is_below(one, prefix)
    )


def engine_changes(old: ServedModel, new: ServedModel) -> tuple[str, ...]:
    """What differs between two models that an engine cannot be told while it runs."""
    before, after = _flat(_of_engine(old)), _flat(_of_engine(new))
    return tuple(_changes(before, after))


def placement_changes(old: ServedModel, new: ServedModel) -> tuple[str, ...]:
    """What differs between two models that the same engine can serve."""

    def about(model: ServedModel) -> dict[str, Any]:
        placed = model.model_dump(mode="json", include=set(Placement.model_fields) - _OF_ENGINE)
        return placed | model.config.model_dump(mode="json", include=set(_PUBLISHED))

    return tuple(_changes(_flat(about(old)), _flat(about(new))))


def until_restart(old: Site, new: Site) -> Site:
    """The new site with what only a restart can change as it was."""
    defaults = new.engine_defaults.model_copy(update={"standby": old.engine_defaults.standby})
    return new.model_copy(
        update={
            "memory": old.memory,
            "engine_defaults": defaults,
            "log": new.log.model_copy(update={"format": old.log.format}),
        }
    )


def _of_engine(model: ServedModel) -> dict[str, Any]:
    config = model.config.model_dump(mode="json", exclude=set(_PUBLISHED))
    placed = model.model_dump(mode="json", include=set(_OF_ENGINE))
    return config | placed | {"adapters": "some" if model.adaptable else "none"}


def _plain(site: Site) -> dict[str, Any]:
    return site.model_dump(mode="json", exclude={"models"})


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    """Dotted names of the values that are not mappings; an empty mapping has none."""
    if not isinstance(value, Mapping):
        return {at: value}
    found: dict[str, Any] = {}
    for key, below in value.items():
        found |= _flat(below, f"{at}.{key}" if at else str(key))
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield f"{name}: {_shown(old)} → {_shown(new)}"


def _is_below(change: str, prefix: str) -> bool:
    name = change.partition(":")[0]
    return name == prefix or name.startswith(f"{prefix}.")


def _shown(value: Any) -> str:
    match value:
        case None | [] | "":
            return "none"
        case bool():
            return str(value).lower()
        case [*items] if all(isinstance(one, str) for one in items):
            text = ", ".join(items)
        case [*items]:
            return f"{len(items)} of them"
        case _:
            text = str(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"
