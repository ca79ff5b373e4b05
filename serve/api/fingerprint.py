"""What tells one request from another, taken while its body goes by."""

import hashlib
from email.message import Message as Mail
from typing import Final

from starlette.types import Message, Scope

from serve.core.grant import EVERYTHING, Grant

BOUNDARY_MAX_CHARS: Final = 70
"""RFC 2046, section 5.1.1."""


class Fingerprint:
    """SHA-256 of a request's method, address and body, and of what its sender may do: nobody is
    told the answer to what he may not ask.

    The boundary between the parts of a form does not count: clients make a new one at each try.
    """

    def __init__(self, scope: Scope, grant: Grant = EVERYTHING) -> None:
        self._hash = hashlib.sha256()
        may = (grant.models, grant.endpoints and sorted(grant.endpoints), grant.admin)
        said = (scope["method"], scope["path"], repr(may))
        for part in (scope["query_string"], *(one.encode() for one in said)):
            self._hash.update(b"%d:%s" % (len(part), part))
        self._boundary = _boundary_of(scope)
        self._left = b""
        self.size_bytes = 0
        self.whole = False
        """Whether the body has been seen to its end."""

    def feed(self, message: Message) -> None:
        """Take what `receive` has given."""
        if message["type"] != "http.request":
            return
        data = message.get("body", b"")
        self.size_bytes += len(data)
        if self._boundary:
            *before, self._left = (self._left + data).split(self._boundary)
            for one in before:
                self._hash.update(one)
            known = max(0, len(self._left) - len(self._boundary) + 1)
            self._hash.update(self._left[:known])
            self._left = self._left[known:]
        else:
            self._hash.update(data)
        self.whole = not message.get("more_body", False)

    def digest(self) -> str:
        """In hex; the body must be whole."""
        ended = self._hash.copy()
        ended.update(self._left)
        return ended.hexdigest()


def _boundary_of(scope: Scope) -> bytes:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if not kind.lower().startswith(b"multipart/"):
        return b""
    mail = Mail()
    mail["content-type"] = kind.decode("latin-1")
    boundary = mail.get_param("boundary")
    if not isinstance(boundary, str) or len(boundary) > BOUNDARY_MAX_CHARS:
        return b""
    return boundary.encode("latin-1", errors="replace")
