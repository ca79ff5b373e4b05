"""Captures: results that are signed where they were made, and checked where nothing can be asked.

The envelope is DSSE (Dead Simple Signing Envelope 1.0, secure-systems-lab/dsse, protocol.md), the
signature Ed25519 (RFC 8032). A capture is believed by a public key that the reader was given
beforehand, never by one that comes with it.
"""

import base64
import binascii
import datetime
import hashlib
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from benchmarks.load.result import Result
from benchmarks.load.workload import Strict
from serve.core.errors import SettingsError

PAYLOAD_TYPE: Final = "application/vnd.inhouse.load+json"


class Signature(Strict):
    """One signature; `keyid` says which key to try, and proves nothing."""

    keyid: str
    sig: str


class Envelope(Strict):
    """A result and its signatures, in DSSE's own names."""

    payload: str
    payload_type: Annotated[
        Literal["application/vnd.inhouse.load+json"], Field(alias="payloadType")
    ] = PAYLOAD_TYPE
    signatures: Annotated[tuple[Signature, ...], Field(min_length=1, max_length=8)]


def make_key(file: Path) -> Path:
    """Write a private key, readable by its owner alone, and beside it the public one.

    Raises SettingsError where either is there already.
    """
    public = file.with_name(f"{file.name}.pub")
    for one in (file, public):
        if one.exists():
            raise SettingsError(f"{one} is there already; a key is not overwritten")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(private)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return public


def private_key(file: Path) -> Ed25519PrivateKey:
    """Raises SettingsError where the file holds none."""
    try:
        found = serialization.load_pem_private_key(_read(file), None)
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise SettingsError(f"{file}: no Ed25519 key; make one with `inhouse bench key`")
    return found


def public_key(file: Path) -> Ed25519PublicKey:
    """Raises SettingsError where the file holds none."""
    try:
        found = serialization.load_pem_public_key(_read(file))
    except ValueError:
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise SettingsError(f"{file}: no public Ed25519 key; give the .pub file of the signer")
    return found


def sealed(result: Result, key: Ed25519PrivateKey) -> Envelope:
    """The result, signed."""
    body = result.model_dump_json(by_alias=True).encode()
    signature = key.sign(_authenticated(PAYLOAD_TYPE, body))
    return Envelope(
        payload=base64.b64encode(body).decode(),
        signatures=(
            Signature(keyid=key_id(key.public_key()), sig=base64.b64encode(signature).decode()),
        ),
    )


def opened(file: Path, pinned: Ed25519PublicKey) -> Result:
    """The result of a capture that this key signed. Raises SettingsError on any other."""
    try:
        envelope = Envelope.model_validate_json(_read(file))
        body = base64.b64decode(envelope.payload, validate=True)
        signatures = [base64.b64decode(one.sig, validate=True) for one in envelope.signatures]
    except (ValidationError, binascii.Error):
        raise SettingsError(f"{file}: not a capture that `inhouse bench capture` wrote") from None
    message = _authenticated(envelope.payload_type, body)
    if not any(_signed(pinned, signature, message) for signature in signatures):
        named = ", ".join(one.keyid for one in envelope.signatures)
        raise SettingsError(
            f"{file}: the signature is not of the pinned key ({key_id(pinned)}; it names {named}), "
            "or the capture was changed; nothing of it is believed"
        )
    try:
        return Result.model_validate_json(body)
    except ValidationError:
        raise SettingsError(f"{file}: signed, and not a result of this version") from None


def age_days(result: Result, now: datetime.datetime) -> float:
    """How old a capture is, by the clock of the machine that made it."""
    return (now - datetime.datetime.fromisoformat(result.started_at)).total_seconds() / 86_400


def is_capture(file: Path) -> bool:
    """Whether a file is an envelope; what is in it is not looked at."""
    return b'"payloadType"' in _read(file)


def key_id(key: Ed25519PublicKey) -> str:
    """A name for a key: of the SHA-256 of its 32 bytes, the beginning."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _authenticated(payload_type: str, body: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def _signed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
