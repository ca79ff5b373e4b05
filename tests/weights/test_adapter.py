"""Adapters on disk: what fits a base, and what is refused by which reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve.core.errors import SettingsError
from serve.weights.adapter import Base, base_of, inspect_adapter, keep
from serve.weights.digest import digest_of

HIDDEN, GIVEN, LAYERS = 8, 4, 2


@pytest.fixture
def base(tmp_path: Path) -> Base:
    folder = tmp_path / "smollm2-135m"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    weights = {"model.embed_tokens.weight": np.zeros((16, HIDDEN), np.float32)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        weights[f"{at}self_attn.q_proj.weight"] = np.zeros((HIDDEN, HIDDEN), np.float32)
        weights[f"{at}self_attn.v_proj.weight"] = np.zeros((GIVEN, HIDDEN), np.float32)
        weights[f"{at}mlp.packed.qweight"] = np.zeros((1, 3), np.int32)
    save_file(weights, folder / "model.safetensors")
    return base_of(folder, "small")


def halves(module: str, rank: int, given: int, taken: int = HIDDEN) -> dict[str, Any]:
    name = f"base_model.model.model.{module}"
    return {
        f"{name}.lora_A.weight": np.ones((rank, taken), np.float32),
        f"{name}.lora_B.weight": np.ones((given, rank), np.float32),
    }


Write = Callable[..., Path]


@pytest.fixture
def adapter(tmp_path: Path) -> Write:
    def write(tensors: dict[str, Any] | None = None, **config: Any) -> Path:
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        said = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["v_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(said | config))
        given = halves("layers.1.self_attn.v_proj", 4, GIVEN) if tensors is None else tensors
        save_file(given, folder / "adapter_model.safetensors")
        return folder

    return write


def refusal(folder: Path, base: Base | None, rank_max: int = 16) -> str:
    with pytest.raises(SettingsError) as refused:
        inspect_adapter(folder, base, rank_max)
    assert "\n" not in refused.value.message
    assert str(folder) in refused.value.message
    return refused.value.message


def test_one_that_fits(adapter: Write, base: Base) -> None:
    assert inspect_adapter(adapter(), base, 16) == 4
    assert inspect_adapter(adapter(), None, 4) == 4


@pytest.mark.parametrize(
    "name",
    [
        None, "", "HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct",
        "someone/SmolLM2-135M-Instruct-bnb-4bit/", "/home/trainer/out", "./out", "org/small",
    ],
)  # fmt: skip
def test_a_base_is_known_by_any_of_its_names(adapter: Write, base: Base, name: str | None) -> None:
    assert inspect_adapter(adapter(base_model_name_or_path=name), base, 16) == 4


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM-135M", "meta-llama/Llama-3.2-1B", "gpt2"])
def test_another_base_is_refused_by_name(adapter: Write, base: Base, name: str) -> None:
    said = refusal(adapter(base_model_name_or_path=name), base)
    assert f"made for {name}, and this model is small" in said


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (halves("layers.2.self_attn.v_proj", 4, GIVEN), "layers.2.self_attn.v_proj, which small"),
        (halves("layers.1.self_attn.w_proj", 4, GIVEN), "does not have"),
        (
            halves("layers.1.self_attn.v_proj", 4, GIVEN, 9),
            "takes 9 values and gives 4, but in small it takes 8 and gives 4",
        ),
        (halves("layers.1.self_attn.v_proj", 4, 7), "made for another model"),
        ({"layers.1.v_proj.weight": np.ones((2, 2), np.float32)}, "not a tensor of a LoRA"),
        ({}, "holds no tensors"),
        (
            {"a.lora_A.weight": np.ones((2, 2), np.float32)},
            "a has only its half A",
        ),
        (
            {
                "a.lora_A.weight": np.ones((2, 2), np.float32),
                "a.lora_B.weight": np.ones((2, 3), np.float32),
            },
            "halves of ranks 2 and 3",
        ),
        ({"a.lora_A.weight": np.ones((2, 2), np.int8)}, "a.lora_A.weight is I8"),
        ({"a.lora_A.weight": np.ones((2,), np.float32)}, "[2]"),
    ],
)
def test_a_misfit_is_refused_by_its_tensors(
    adapter: Write, base: Base, tensors: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(adapter(tensors), base)


def test_packed_and_embedded_modules(adapter: Write, base: Base) -> None:
    embedded = {
        "base_model.model.model.embed_tokens.lora_embedding_A": np.ones((4, 16), np.float32),
        "base_model.model.model.embed_tokens.lora_embedding_B": np.ones((HIDDEN, 4), np.float32),
        "base_model.model.model.embed_tokens.base_layer.weight": np.ones((1, 1), np.float32),
    }
    tensors = embedded | halves("layers.0.mlp.packed", 4, 99)
    assert inspect_adapter(adapter(tensors), base, 16) == 4


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "use_dora is not run"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is not run"),
        ({"bias": "all"}, "bias 'all' is not run"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base model's own weights"),
        ({"r": 8}, "says rank 8, but model.layers.1.self_attn.v_proj has rank 4"),
        ({"r": None}, "r must be the adapter's rank"),
        ({"rank_pattern": [1]}, "r must be the adapter's rank"),
    ],
)
def test_what_no_engine_runs_is_refused(
    adapter: Write, base: Base, config: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(adapter(**config), base)


def test_ranks_of_single_modules_are_known(adapter: Write, base: Base) -> None:
    assert inspect_adapter(adapter(r=8, rank_pattern={"v_proj": 4}), base, 16) == 4


def test_the_rank_is_bounded(adapter: Write, base: Base) -> None:
    tensors = halves("layers.0.self_attn.v_proj", 32, GIVEN)
    said = refusal(adapter(tensors, r=32), base)
    assert "rank 32 is above adapter_rank_max 16; raise it" in said


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("training_args.bin", "only safetensors are opened"),
        ("adapter_model.pt", "only safetensors are opened"),
        ("modeling.py", "code beside weights is refused"),
    ],
)
def test_code_and_pickles_are_refused(adapter: Write, base: Base, name: str, reason: str) -> None:
    folder = adapter()
    (folder / name).write_bytes(b"x")
    assert reason in refusal(folder, base)


def test_links_that_leave_are_refused(adapter: Write, base: Base, tmp_path: Path) -> None:
    folder = adapter()
    (folder / "README.md").symlink_to(tmp_path / "smollm2-135m" / "config.json")
    assert "leaves the model's directory" in refusal(folder, base)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter(adapter: Write, base: Base, missing: str) -> None:
    folder = adapter()
    (folder / missing).unlink()
    assert f"{missing} is missing" in refusal(folder, base)


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
def test_a_damaged_configuration(adapter: Write, base: Base, text: str) -> None:
    folder = adapter()
    (folder / "adapter_config.json").write_text(text)
    assert "JSON" in refusal(folder, base)


def test_no_folder(tmp_path: Path, base: Base) -> None:
    assert "no adapter here" in refusal(tmp_path / "none", base)


def test_a_kept_copy_is_what_was_digested(adapter: Write, tmp_path: Path) -> None:
    folder, shelf = adapter(), tmp_path / "shelf"
    (folder / "README.md").write_text("not read by an engine")
    digest = digest_of(folder)
    kept = keep(folder, digest, shelf)
    assert sorted(p.name for p in kept.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert kept.name == digest.removeprefix("sha256:")
    adapter(r=9)
    assert keep(folder, digest, shelf) == kept
    assert json.loads((kept / "adapter_config.json").read_text())["r"] == 4


def test_one_that_changes_under_the_copy_is_refused(adapter: Write, tmp_path: Path) -> None:
    folder, shelf = adapter(), tmp_path / "shelf"
    digest = digest_of(folder)
    adapter(r=9)
    with pytest.raises(SettingsError, match="changed while it was read"):
        keep(folder, digest, shelf)
    assert list(shelf.iterdir()) == []
