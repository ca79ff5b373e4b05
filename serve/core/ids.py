"""Names of the API's objects and of requests: a prefix that says what it is, and random bits."""

import os
from secrets import token_hex
from typing import Final

_REQUEST_BYTES: Final = 16
_AHEAD: Final = 64
"""Requests whose names are made at once: each visit to the kernel lets other threads in between."""
_names: list[str] = []


def new_id(prefix: str) -> str:
    """For example `msg_…`, of 192 bits. Nobody can guess one, and two are never the same."""
    return f"{prefix}_{token_hex(24)}"


def new_request_id() -> str:
    """`req_…`, of 128 bits: for logs and records."""
    if not _names:
        data, size = os.urandom(_REQUEST_BYTES * _AHEAD).hex(), 2 * _REQUEST_BYTES
        _names.extend(f"req_{data[at : at + size]}" for at in range(0, len(data), size))
    return _names.pop()
