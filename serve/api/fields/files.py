"""Bodies of `/v1/files` and `/v1/uploads`: their tables."""

from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.fate import Check, Table, honoured
from serve.api.fields.shapes import BINARY, closed, integer, text, words
from serve.state.files import BATCH

PURPOSES: Final = (BATCH, "user_data")
EXPIRY_MIN_S: Final = 3600
EXPIRY_MAX_S: Final = 2_592_000
PARTS_MAX: Final = 10_000
_REFUSED: Final = {
    "assistants": "the Assistants API is not served here; use 'user_data'.",
    "fine-tune": "models are not trained here yet.",
    "vision": "images are taken as data: URLs in the request itself.",
    "evals": "the Evals API is not served here.",
}


def _purpose(value: Any, param: str) -> str:
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    if value in _REFUSED:
        raise faults.unsupported_value(param, value, _REFUSED[value])
    if value not in PURPOSES:
        raise faults.not_one_of(param, value, PURPOSES)
    return value


def read_expiry(value: Any, param: str) -> int:
    """Seconds after its creation at which a file expires."""
    checks.keys(value, param, frozenset({"anchor", "seconds"}))
    for key in ("anchor", "seconds"):
        if value.get(key) is None:
            raise faults.missing(f"{param}.{key}")
    if value["anchor"] != "created_at":
        raise faults.not_one_of(f"{param}.anchor", value["anchor"], ("created_at",))
    seconds = checks.integer(EXPIRY_MIN_S, EXPIRY_MAX_S).run(value["seconds"], f"{param}.seconds")
    return int(seconds)


def _filename(value: Any, param: str) -> str:
    text = checks.text(value, param, 255, 1)
    checks.size_bytes(text, param)
    if any(ord(char) < 32 or char in "/\\\x7f" for char in text):
        raise faults.invalid(param, "it has a character that no file's name has.")
    return text


EXPIRY: Final = Check(
    f"object: `anchor` is `created_at`, `seconds` an integer, {EXPIRY_MIN_S:,} to {EXPIRY_MAX_S:,}",
    read_expiry,
    closed({"anchor": words("created_at"), "seconds": integer(EXPIRY_MIN_S, EXPIRY_MAX_S)}),
)
_PURPOSE: Final = Check(" or ".join(f"`{one}`" for one in PURPOSES), _purpose, words(*PURPOSES))
_PURPOSE_NOTE: Final = (
    "`batch` for input files of batches; `user_data` for anything, which is kept and given back."
)
_KEPT: Final = "Without it the file is kept as long as the site keeps this tenant's objects."
_SIZE_MAX: Final = 2**40


def _given(value: Any, param: str) -> None:
    """The file is read before its form is looked at."""


_FILE: Final = Check("a file", _given, BINARY)


FILE: Final = Table(
    "/v1/files",
    ("purpose",),
    (
        honoured("file", _FILE, "At most the site's `files.file_mib`."),
        honoured("purpose", _PURPOSE, _PURPOSE_NOTE),
        honoured("expires_after", EXPIRY, _KEPT),
    ),
)
UPLOAD: Final = Table(
    "/v1/uploads",
    ("filename", "purpose", "bytes", "mime_type"),
    (
        honoured(
            "filename",
            Check("string, 1 to 255 characters", _filename, text(255, 1)),
            "The file's name.",
        ),
        honoured("purpose", _PURPOSE, _PURPOSE_NOTE),
        honoured(
            "bytes",
            checks.integer(1, _SIZE_MAX),
            "What the parts must have together. At most the site's `files.upload_mib`.",
        ),
        honoured("mime_type", checks.string(128, minimum_chars=1), "Kept; any will do."),
        honoured("expires_after", EXPIRY, _KEPT),
    ),
)
UPLOAD_PART: Final = Table(
    "/v1/uploads/{upload_id}/parts",
    (),
    (honoured("data", _FILE, "At most the site's `files.part_mib`."),),
)
UPLOAD_COMPLETE: Final = Table(
    "/v1/uploads/{upload_id}/complete",
    ("part_ids",),
    (
        honoured(
            "part_ids",
            checks.items(checks.string(80, minimum_chars=1), PARTS_MAX, minimum_items=1),
            "The parts, in the order in which they make the file.",
        ),
        honoured("md5", checks.string(32, minimum_chars=32), "Compared with what they make."),
    ),
)


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A checked request of `/v1/uploads`."""

    filename: str
    purpose: str
    size_bytes: int
    mime_type: str
    keep_s: int | None


def check_file(fields: dict[str, Any]) -> tuple[str, int | None]:
    """Purpose and seconds of expiry of a new file, from its form; raises InvalidRequest."""
    _, own = FILE.read(fields)
    return own["purpose"], own.get("expires_after")


def check_upload(body: object) -> NewUpload:
    """Check a request of `/v1/uploads`; raises InvalidRequest."""
    _, own = UPLOAD.read(body)
    mime_type = own["mime_type"]
    checks.size_bytes(mime_type, "mime_type")
    if "\0" in mime_type:
        raise faults.invalid("mime_type", "it has a NUL character.")
    return NewUpload(
        own["filename"], own["purpose"], own["bytes"], mime_type, own.get("expires_after")
    )


def check_complete(body: object) -> tuple[list[str], str | None]:
    """Ids of the parts and, where it is given, the MD5 sum; raises InvalidRequest."""
    _, own = UPLOAD_COMPLETE.read(body)
    return own["part_ids"], own.get("md5")
