"""The free text of a custom tool's call, out of the `{"input": …}` that the model writes."""

import json
import re
from typing import Any, Final

JSON = dict[str, Any]

_HEAD: Final = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_TEXT: Final = re.compile(r'(?:[^"\\]|\\[^u]|\\u[0-9a-fA-F]{4})*')
_HALF_PAIR: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")


class InputText:
    """Incremental: feed the arguments as they come, get the text as far as it is known."""

    __slots__ = ("_ended", "_inside", "_raw", "_rest", "_sent")

    def __init__(self) -> None:
        self._raw: list[str] = []
        self._rest = ""
        self._inside = self._ended = False
        self._sent: list[str] = []

    @property
    def text(self) -> str:
        """What has been given out so far."""
        return "".join(self._sent)

    def feed(self, arguments: str) -> str:
        """The text that these arguments add."""
        self._raw.append(arguments)
        if self._ended:
            return ""
        self._rest += arguments
        if not self._inside:
            head = _HEAD.match(self._rest)
            if head is None:
                return ""
            self._inside = True
            self._rest = self._rest[head.end() :]
        return self._send(self._string())

    def finish(self) -> str:
        """What is still owed once the call is whole: all, where the form was another."""
        if self._inside:
            return ""
        try:
            value: Any = json.loads("".join(self._raw))
        except ValueError:
            return ""
        found = value.get("input", value) if isinstance(value, dict) else value
        if isinstance(found, dict) and not found:
            return ""
        return self._send(found if isinstance(found, str) else json.dumps(found))

    def _string(self) -> str:
        """The decoded beginning of what waits, up to the closing quote or a cut escape."""
        whole = _TEXT.match(self._rest)
        assert whole is not None  # it matches nothing, too
        raw = whole.group()
        self._rest = self._rest[len(raw) :]
        if self._rest.startswith('"'):
            self._ended = True
        elif half := _HALF_PAIR.search(raw):
            raw, self._rest = raw[: half.start()], half.group() + self._rest
        return _decoded(raw)

    def _send(self, text: str) -> str:
        if text:
            self._sent.append(text)
        return text


def _decoded(raw: str) -> str:
    if "\\" not in raw:
        return raw
    try:
        text = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        return raw  # an escape that JSON has not: the model's own words
    # Half of a pair of surrogates is no character, and no text that can be sent.
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
