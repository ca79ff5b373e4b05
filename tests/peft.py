"""LoRA adapters in PEFT's layout, made of random numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Sides = tuple[int, int]


def write_adapter(
    folder: Path, modules: dict[str, Sides], *, rank: int = 4, scale: float = 1.0, **config: Any
) -> Path:
    """An adapter of modules (name from the layer on → values given, values taken)."""
    numbers = np.random.default_rng(7)
    tensors = {}
    for module, (given, taken) in modules.items():
        name = f"base_model.model.model.{module}"
        for half, shape in (("A", (rank, taken)), ("B", (given, rank))):
            tensors[f"{name}.lora_{half}.weight"] = numbers.normal(0, scale, shape).astype("f4")
    said = {
        "peft_type": "LORA", "r": rank, "lora_alpha": rank,
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module in modules}),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(said | config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
