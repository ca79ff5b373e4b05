"""What an engine process writes, read so that it never waits and never fills our memory."""

import asyncio
import logging
import os
import re
from collections import deque
from typing import Final

log = logging.getLogger("inhouse.engine")

TAIL_LINES: Final = 50
FAULT_WITHIN_LINES: Final = 200
"""A fault longer ago than this is another story."""
LINE_MAX_BYTES: Final = 4096
LAST_WORDS_MAX_CHARS: Final = 300
READ_MAX_BYTES: Final = 65536
DRAIN_MAX_BYTES: Final = 1024 * 1024

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ENDS: Final = re.compile(rb"[\r\n]+")
# The line a Python traceback ends with, bare or behind a logger's prefix, or an argument
# parser's; not a warning that only mentions an error.
_FAULT: Final = re.compile(r"(?:^|[\])] )[A-Za-z_][\w.]*(?:Error|Exception): \S|^\S+: error: \S")
# vLLM's API server says only that its core has failed; what failed, the core said before.
_ELSEWHERE: Final = re.compile(r"root cause above", re.IGNORECASE)


class Output:
    """A pipe whose lines go to the log (at debug) and, the last of them, into memory.

    `write_end` is for the process; close ours of it once that has been started.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._count = 0
        self._fault = (0, "")
        self._partial = b""
        self._read_end, self.write_end = os.pipe()
        self._open = self._write_open = True
        os.set_blocking(self._read_end, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_end, self._on_readable)

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._lines)

    @property
    def last_words(self) -> str:
        """The line that most likely says why: the last that names a fault, else the last."""
        at, fault = self._fault
        if fault and self._count - at < FAULT_WITHIN_LINES:
            return fault[:LAST_WORDS_MAX_CHARS]
        return self._lines[-1][:LAST_WORDS_MAX_CHARS] if self._lines else ""

    def close_write_end(self) -> None:
        if self._write_open:
            self._write_open = False
            os.close(self.write_end)

    def close(self) -> None:
        """Read what has been written until now, and no more."""
        self.close_write_end()
        if not self._open:
            return
        for _ in range(DRAIN_MAX_BYTES // READ_MAX_BYTES):
            if not self._on_readable():
                break
        self._end()

    def _on_readable(self) -> bool:
        """Take in what is there; False where there was nothing."""
        if not self._open:
            return False
        try:
            data = os.read(self._read_end, READ_MAX_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        *lines, rest = _ENDS.split(self._partial + data)
        for line in lines:
            self._take(line)
        # Of a line without end only the beginning is kept.
        self._partial = rest[:LINE_MAX_BYTES]
        return True

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._take(self._partial)
        self._partial = b""

    def _take(self, line: bytes) -> None:
        text = _COLOURS.sub("", line[:LINE_MAX_BYTES].decode(errors="replace")).rstrip()
        if not text:
            return
        self._lines.append(text)
        self._count += 1
        if _FAULT.search(text) and not _ELSEWHERE.search(text):
            self._fault = (self._count, text)
        log.debug("%s", text, extra={"model": self.label})
