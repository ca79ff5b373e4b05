"""What each difference between two sites takes."""

from pydantic import BaseModel

from serve.release.difference import AT_NEXT_START, AT_ONCE, FOR_NEW_ENGINES, NEEDS_RESTART
from serve.settings.site import Site

KNOWN = (*NEEDS_RESTART, *AT_NEXT_START, *FOR_NEW_ENGINES, *AT_ONCE)
APART = {"models", "engine_defaults.profile"}
"""What a plan looks at by itself: the models, and what all their engines are started with."""


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        path = f"{prefix}{name}"
        if path in APART or path in KNOWN:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += leaves(kind, f"{path}.")
        else:
            found.append(path)
    return found


def test_no_setting_changes_without_a_word() -> None:
    assert leaves(Site) == []
