"""How much memory a model takes, read from its folder: nothing of it is executed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serve.core.errors import SetupError

_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """`weights_bytes` are on disk, in numbers of `weight_bytes` each (2 where it is not said).

    `kv_values_per_token`: numbers that the KV cache keeps of one token, 0 where the config does
    not say (then nothing is refused on their account).
    """

    weights_bytes: int
    weight_bytes: int
    kv_values_per_token: int


def shape_of(folder: Path) -> Shape:
    """The shape of the model in `folder`. Raises SetupError where it is not one."""
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        config = None
    if weights == 0 or not isinstance(config, dict):
        raise SetupError(
            f"{folder}: no model there (config.json and *.safetensors); put its files there, or "
            "correct source.path"
        )
    text = config.get("text_config", config)
    return Shape(
        weights_bytes=weights,
        weight_bytes=_weight_bytes(config, text),
        kv_values_per_token=_kv_values(text),
    )


def _weight_bytes(config: dict[str, Any], text: dict[str, Any]) -> int:
    if config.get("quantization_config"):
        return 2  # they stay packed in memory; nothing is widened
    for one in (config, text):
        said = one.get("dtype") or one.get("torch_dtype")
        if said in _BYTES:
            return _BYTES[said]
    # Checkpoints from before the field existed are float32.
    return 4 if "transformers_version" in config else 2


def _kv_values(text: dict[str, Any]) -> int:
    if "kv_lora_rank" in text:  # multi-head latent attention keeps one compressed vector
        return int(text["num_hidden_layers"]) * (
            int(text["kv_lora_rank"]) + int(text.get("qk_rope_head_dim", 0))
        )
    try:
        heads = int(text["num_attention_heads"])
        size = int(text.get("head_dim") or text["hidden_size"] // heads)
        kv_heads = int(text.get("num_key_value_heads") or heads)
        return 2 * int(text["num_hidden_layers"]) * kv_heads * size
    except (KeyError, TypeError, ZeroDivisionError):
        return 0
