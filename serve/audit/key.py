"""Keys of the audit log: Ed25519 (RFC 8032), named and written as C2SP's signed-note says.

https://c2sp.org/signed-note: a key's id is the first four bytes of the SHA-256 of its name, a line
feed, the byte 1 (Ed25519) and the public key; text of a public key is `NAME+ID+BASE64`.
"""

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from serve.audit.files import write_whole
from serve.core.errors import SettingsError, SetupError

_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_PUBLIC_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are held against; `name` is that of the log it signs."""

    name: str
    raw: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that stand before its signatures."""
        named = self.name.encode() + b"\n" + _ED25519 + self.raw
        return hashlib.sha256(named).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        text = base64.b64encode(_ED25519 + self.raw).decode()
        return f"{self.name}+{self.id.hex()}+{text}"

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Whether this key has signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and the name that it signs under."""

    public: PublicKey
    _private: Ed25519PrivateKey

    def sign(self, text: bytes) -> bytes:
        return self._private.sign(text)


def public_key(text: str) -> PublicKey:
    """Read `NAME+ID+BASE64`. Raises SettingsError."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    key = PublicKey(name, raw[1:])
    right = raw[:1] == _ED25519 and len(raw) == 1 + _PUBLIC_BYTES and key.id.hex() == key_id
    if not name or not right:
        raise SettingsError(
            f"{text.strip()[:80]!r} is no public key; it is a line `NAME+ID+BASE64`, as the "
            "server writes it to audit/key.pub"
        )
    return key


def signer_at(path: Path, name: str, *, make: bool) -> Signer:
    """The key in a file (PEM, PKCS #8, not encrypted); made with mode 0600 where it may be.

    Raises SetupError.
    """
    try:
        if make and not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise SetupError(f"{path}: others can read this key; run `chmod 600 {path}`")
        private = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise SetupError(f"{path}: the audit log's key: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SetupError(
            f"{path}: is no Ed25519 key in PEM; make one: openssl genpkey -algorithm ed25519"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SetupError(f"{path}: is a key of another kind; the audit log is signed with Ed25519")
    return Signer(PublicKey(name, private.public_key().public_bytes_raw()), private)


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_whole(path, pem)


def new_log_name() -> str:
    """What a new log is called in its checkpoints: no two logs have one name."""
    return f"inhouse-audit-{os.urandom(8).hex()}"
