"""What is read of a model's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import SetupError
from serve.engines.shape import Shape, shape_of

SMOLLM2 = {
    "dtype": "bfloat16", "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "hidden_size": 576,
}  # fmt: skip


def folder(path: Path, config: dict[str, Any]) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    (path / "a.safetensors").write_bytes(b"x" * 600)
    (path / "b.safetensors").write_bytes(b"x" * 400)
    return path


def test_weights_dtype_and_cache(tmp_path: Path) -> None:
    assert shape_of(folder(tmp_path, SMOLLM2)) == Shape(1000, 2, 2 * 30 * 3 * 64)


@pytest.mark.parametrize(
    ("config", "weight_bytes", "kv_values"),
    [
        ({"text_config": SMOLLM2}, 2, 11_520),
        ({"torch_dtype": "float32", "num_hidden_layers": 6, "num_attention_heads": 12,
          "hidden_size": 384}, 4, 2 * 6 * 384),
        ({"transformers_version": "4.8.2"}, 4, 0),
        ({"dtype": "float32", "quantization_config": {"quant_method": "mxfp4"}}, 2, 0),
        ({"num_hidden_layers": 27, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 2, 27 * 576),
    ],
)  # fmt: skip
def test_other_configs(
    tmp_path: Path, config: dict[str, Any], weight_bytes: int, kv_values: int
) -> None:
    shape = shape_of(folder(tmp_path, config))
    assert (shape.weight_bytes, shape.kv_values_per_token) == (weight_bytes, kv_values)


def test_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no model there.*correct source\.path"):
        shape_of(tmp_path)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "a.safetensors").write_bytes(b"x")
    with pytest.raises(SetupError, match="no model there"):
        shape_of(tmp_path)
