"""What a safetensors file says of its tensors; their values are not read.

The format (https://github.com/huggingface/safetensors, "Format"): eight bytes of length, little
endian, that many bytes of JSON, then the tensors' bytes without gaps.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from serve.core.errors import SettingsError

HEADER_MAX_BYTES: Final = 100_000_000
"""The format's own bound."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Number format, as the file names it, and shape."""

    dtype: str
    shape: tuple[int, ...]


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Name → tensor of one file. Raises SettingsError where it is damaged or no such file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(HEADER_MAX_BYTES, size - 8):
                raise SettingsError(f"{path}: not a safetensors file; copy it again")
            header = orjson.loads(file.read(length))
    except orjson.JSONDecodeError:
        raise SettingsError(f"{path}: not a safetensors file; copy it again") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return _checked(header, size - 8 - length)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(f"{path}: damaged ({error}); copy it again") from None


def _checked(header: dict[str, Any], size: int) -> dict[str, Tensor]:
    spans: list[tuple[int, int]] = []
    tensors: dict[str, Tensor] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        spans.append((int(begin), int(end)))
        tensors[name] = Tensor(str(entry["dtype"]), tuple(int(side) for side in entry["shape"]))
    at = 0
    for begin, end in sorted(spans):
        if begin != at or end < begin:
            raise ValueError("its tensors overlap or leave gaps")
        at = end
    if at != size:
        raise ValueError(f"{size} bytes of tensors where its header tells of {at}")
    return tensors
