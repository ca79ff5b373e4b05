"""An engine's own series beside ours, told apart by a `model` label.

Works on the text exposition format (0.0.4), line by line: families of the same name from
several engines are joined under one HELP and TYPE, as the format demands.
"""

from collections.abc import Mapping
from typing import Final

_FAMILY_SUFFIXES: Final = ("_bucket", "_count", "_sum", "_created", "_total", "_info")


def reexport(pages: Mapping[str, str]) -> str:
    """Join the pages of several engines (model id → exposition text) into one.

    Every sample gains `model="<id>"`, and of an `<id>#<number>` also `replica="<number>"`;
    comments other than HELP and TYPE are dropped.
    """
    comments: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for key, page in pages.items():
        model_id, _, replica = key.partition("#")
        label = f'model="{model_id}"' + (f',replica="{replica}"' if replica else "")
        for line in page.split("\n"):
            if line.startswith("# "):
                _, kind, name, *_ = (*line.split(" ", 3), "", "")
                if kind in ("HELP", "TYPE"):
                    comments.setdefault(name, {}).setdefault(kind, line)
                    samples.setdefault(name, [])
            elif line and not line.startswith("#"):
                samples.setdefault(_family(line, comments), []).append(_label(line, label))
    out: list[str] = []
    for name, lines in samples.items():
        if lines:
            out.extend(comments.get(name, {}).values())
            out.extend(lines)
    return "\n".join(out) + "\n" if out else ""


def _family(line: str, known: Mapping[str, object]) -> str:
    name = line.split("{", 1)[0].split(" ", 1)[0]
    if name in known:
        return name
    for suffix in _FAMILY_SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in known:
            return name.removesuffix(suffix)
    return name


def _label(line: str, label: str) -> str:
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label},{rest}"
    name, _, rest = line.partition(" ")
    return f"{name}{{{label}}} {rest}"
