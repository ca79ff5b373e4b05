"""`multipart/form-data` with one file, which goes to the disk while it arrives.

Nothing of a body is held but its small fields: those are bounded one by one, the file by
`file_max_bytes`. What is too large is refused as soon as that shows.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.types import Receive, Scope

from serve.api.body import ClientGone, content_length, discard
from serve.api.fields import faults
from serve.core.errors import InvalidRequest, PayloadTooLarge
from serve.state.folder import Incoming

FIELDS_MAX: Final = 32
FIELD_MAX_BYTES: Final = 8192
OVERHEAD_BYTES: Final = 2 * FIELDS_MAX * FIELD_MAX_BYTES
"""What a form may have beside its file."""


@dataclass(slots=True)
class Form:
    """`fields` as they were sent, `name[key]` and all; `filename` is that of the file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    found: bool = False
    """The file was among them."""


async def read_form(
    scope: Scope,
    receive: Receive,
    incoming: Incoming,
    *,
    file_field: str,
    file_max_bytes: int,
    setting: str,
) -> Form:
    """Read a whole form, and write its file to `incoming`, which is left to the caller.

    `setting` is what the bound is called. Raises InvalidRequest, PayloadTooLarge,
    StorageUnavailable or ClientGone.
    """
    reader = _Reader(_boundary(scope), file_field)
    declared = content_length(scope)
    too_large = PayloadTooLarge(
        f"The file is larger than {file_max_bytes / 2**20:g} MiB ({setting}).", param=file_field
    )
    more = True
    try:
        if declared is not None and declared > file_max_bytes + OVERHEAD_BYTES:
            raise too_large
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            for data in reader.feed(message.get("body", b"")):
                if incoming.size_bytes + len(data) > file_max_bytes:
                    raise too_large
                await incoming.write(data)
    except InvalidRequest:
        if more:
            # The sender, who is still writing, gets to read the refusal.
            await discard(receive)
        raise
    return reader.form()


class _Reader:
    """Parts of a form as they come: the file's bytes are handed out, the fields kept."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self._file_field = file_field
        self._form = Form()
        self._ended = False
        self._name = ""
        self._header = b""
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._file: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> list[bytes]:
        """Take more of the body; the file's bytes that were in it."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"The request body is not a valid form: {error}") from None
        file, self._file = self._file, []
        return file

    def form(self) -> Form:
        """All of it, once it has ended."""
        if not self._ended:
            raise InvalidRequest("The request body ends before the form does.")
        return self._form

    def _on_begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", bytearray()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].lower()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header] = bytes(self._value)
        self._header, self._value = b"", bytearray()

    def _on_headers(self) -> None:
        self._value = bytearray()
        disposition = self._headers.get(b"content-disposition", b"").decode("utf-8", "replace")
        _, options = parse_options_header(disposition.encode().decode("latin-1"))
        self._name = _text(options.get(b"name", b""))
        if self._name in self._form.fields or (self._name == self._file_field and self._form.found):
            raise faults.invalid(faults.clipped(self._name), "it is sent more than once.")
        if self._name == self._file_field:
            self._form.found = True
            self._form.filename = _filename(_text(options.get(b"filename", b""))) or None
        elif len(self._form.fields) >= FIELDS_MAX:
            raise InvalidRequest(f"The form has more than {FIELDS_MAX} fields.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file_field:
            self._file.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_MAX_BYTES:
            name = faults.clipped(self._name)
            raise faults.too_long(name, "string", FIELD_MAX_BYTES, len(self._value))

    def _on_part_end(self) -> None:
        if self._name == self._file_field:
            return
        try:
            self._form.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise faults.invalid(faults.clipped(self._name), "it is not UTF-8.") from None

    def _on_end(self) -> None:
        self._ended = True


def unflattened(fields: dict[str, str]) -> dict[str, Any]:
    """`name[key]` as a key of an object `name`; digits alone as a number there."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        inner = re.fullmatch(r"([^\[\]]+)\[([^\[\]]+)\]", name)
        if inner is None:
            found[name] = value
            continue
        below = found.setdefault(inner[1], {})
        if type(below) is not dict:
            raise faults.invalid(inner[1], "it is sent as a text and as an object.")
        number = re.fullmatch(r"[0-9]{1,15}", value, re.ASCII)
        below[inner[2]] = int(value) if number is not None else value
    return found


def _boundary(scope: Scope) -> bytes:
    header = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    kind, options = parse_options_header(header.decode("latin-1"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 256:
        raise InvalidRequest("Send the file as multipart/form-data.", code="invalid_content_type")
    return boundary


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _filename(given: str) -> str:
    """Its last part, without what no name of a file has."""
    last = re.split(r"[/\\]", given)[-1]
    return re.sub(r"[\x00-\x1f\x7f]", "", last)[-255:]
