import json
import struct
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import SettingsError
from serve.weights.header import Tensor, tensors_of

GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def write(path: Path, header: object, data: bytes = b"\0" * 32) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_names_formats_and_shapes(tmp_path: Path) -> None:
    assert tensors_of(write(tmp_path / "f", GOOD)) == {
        "a": Tensor("F32", (2, 3)),
        "b": Tensor("BF16", (4,)),
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x10\0\0\0\0\0\0\0{",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 4) + b"nope",
        b"\x80\x04\x95 a pickle begins like this",
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(SettingsError, match="not a safetensors file"):
        tensors_of(tmp_path / "f")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (GOOD, b"\0" * 31),
        (GOOD, b"\0" * 33),
        (GOOD | {"b": {"dtype": "BF16", "shape": [4], "data_offsets": [20, 32]}}, b"\0" * 32),
        (GOOD | {"b": {"dtype": "BF16", "shape": [4], "data_offsets": [28, 32]}}, b"\0" * 32),
        (GOOD | {"b": {"dtype": "BF16"}}, b"\0" * 32),
        (GOOD | {"b": 7}, b"\0" * 32),
        ([1], b""),
    ],
)
def test_damage_is_named(tmp_path: Path, header: object, data: bytes) -> None:
    path = write(tmp_path / "f", header, data)
    with pytest.raises(SettingsError, match="damaged") as refused:
        tensors_of(path)
    assert str(path) in refused.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        tensors_of(tmp_path / "none")
