"""Checkpoints: how long a log was, and its chain there, signed.

The form is a note as https://c2sp.org/signed-note has it, with the three lines that begin a
checkpoint of https://c2sp.org/tlog-checkpoint: the log's name, its number of records, and a hash in
base64. The hash is the chain of the last record, not the root of a Merkle tree: whoever checks a
log has all of it at hand, so proofs about parts of it are not needed.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from serve.audit.key import PublicKey, Signer

_DASH: Final = "\N{EM DASH}"
_SIGNATURE_BYTES: Final = 64
HEAD_BYTES: Final = 32
NOTE_MAX_BYTES: Final = 16 * 1024


class NotSigned(Exception):
    """It is no note, or no trusted key has signed it; the message says which."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """After `size` records the chain of the log `name` was `head`."""

    name: str
    size: int
    head: bytes

    @property
    def text(self) -> bytes:
        """What is signed."""
        return f"{self.name}\n{self.size}\n{base64.b64encode(self.head).decode()}\n".encode()


def note_of(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The checkpoint, signed."""
    text, key = checkpoint.text, signer.public
    signature = base64.b64encode(key.id + signer.sign(text)).decode()
    return text + f"\n{_DASH} {key.name} {signature}\n".encode()


def checkpoint_of(note: bytes) -> tuple[Checkpoint, list[str]]:
    """What a note says, and the lines of its signatures, not looked at. Raises NotSigned."""
    text, separator, signatures = note.rpartition(b"\n\n")
    text += b"\n"
    try:
        lines = signatures.decode().split("\n")
        name, size, head, *_ = text.decode().split("\n")
        checkpoint = Checkpoint(name, int(size), base64.b64decode(head, validate=True))
    except (ValueError, binascii.Error):
        raise NotSigned("is no checkpoint") from None
    if not separator or len(checkpoint.head) != HEAD_BYTES or checkpoint.text != text:
        raise NotSigned("is no checkpoint")
    return checkpoint, lines


def opened(note: bytes, keys: Iterable[PublicKey]) -> Checkpoint:
    """What one of these keys has signed; lines of others' signatures are passed over.

    Raises NotSigned.
    """
    checkpoint, lines = checkpoint_of(note)
    trusted = tuple(keys)
    if not any(_signs(line, one, checkpoint.text) for line in lines for one in trusted):
        raise NotSigned("is not signed by a key that is trusted")
    return checkpoint


def _signs(line: str, key: PublicKey, text: bytes) -> bool:
    prefix = f"{_DASH} {key.name} "
    if not line.startswith(prefix):
        return False
    try:
        raw = base64.b64decode(line[len(prefix) :], validate=True)
    except (ValueError, binascii.Error):
        return False
    key_id, signature = raw[:4], raw[4:]
    return key_id == key.id and len(signature) == _SIGNATURE_BYTES and key.signed(text, signature)
