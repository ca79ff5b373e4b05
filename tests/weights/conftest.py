"""A directory that looks like a model, small enough to be made for each test."""

from pathlib import Path

import orjson
import pytest


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "1_Pooling").mkdir(parents=True)
    (directory / "config.json").write_bytes(orjson.dumps({"model_type": "llama"}))
    (directory / "model.safetensors").write_bytes(b"weights" * 1000)
    (directory / "1_Pooling" / "config.json").write_text("{}")
    return directory
