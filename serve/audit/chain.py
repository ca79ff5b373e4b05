"""The chain: how a record is written, and how it holds the one before it.

A record is a line of JSON. Its last member, `chain`, is the SHA-256 of the `chain` of the line
before (32 bytes; zeros before the first) and of all that stands before it in its own line, byte for
byte.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

GENESIS: Final = bytes(32)
_TAIL: Final = b',"chain":"'
_END: Final = b'"}'
_TAIL_BYTES: Final = len(_TAIL) + 64 + len(_END)
_HEX: Final = re.compile(rb"[0-9a-f]{64}")

JSON = dict[str, Any]


class Broken(Exception):
    """A line that is no record, or does not follow the one before it; the message says how.

    `said` is the chain that the line names itself, where it can be read: what follows may hold on
    to that.
    """

    def __init__(self, message: str, said: bytes | None = None) -> None:
        super().__init__(message)
        self.said = said


@dataclass(frozen=True, slots=True)
class Record:
    """One line, read. `head` is its chain."""

    fields: JSON
    head: bytes

    @property
    def seq(self) -> int:
        number = self.fields.get("seq")
        return number if type(number) is int else -1

    @property
    def kind(self) -> str:
        return str(self.fields.get("kind"))


def linked(seq: int, time_s: float, said: bytes, before: bytes) -> tuple[bytes, bytes]:
    """The line of a record, with its end, and its chain; `said` is an object, as JSON."""
    body = b'{"seq":%d,"time":%.3f,' % (seq, time_s) + said[1:-1]
    head = hashlib.sha256(before + body).digest()
    return b"".join((body, _TAIL, head.hex().encode(), _END, b"\n")), head


def record_of(line: bytes, before: bytes | None) -> Record:
    """A line without its end, held against the chain of the line before; None holds nothing.

    Raises Broken.
    """
    body, tail = line[:-_TAIL_BYTES], line[-_TAIL_BYTES:]
    said = tail[len(_TAIL) : -len(_END)]
    if not (tail.startswith(_TAIL) and tail.endswith(_END) and _HEX.fullmatch(said)):
        raise Broken("is no record")
    head = bytes.fromhex(said.decode())
    if before is not None and hashlib.sha256(before + body).digest() != head:
        raise Broken("is not what was written, or does not follow the record before it", head)
    try:
        fields = orjson.loads(line)
    except ValueError:
        raise Broken("is no record", head) from None
    return Record(fields, head)
