"""Structured logs: one JSON object a line, request ids in, prompts and answers never."""

import contextlib
import logging
import os
import sys
import time
from typing import Any, Final, Literal

import orjson

_RECORD_FIELDS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …extra}`; time in UTC, milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(
            (key, value) for key, value in record.__dict__.items() if key not in _RECORD_FIELDS
        )
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(logging.Formatter):
    """For a person at a terminal: time, level, message, then the extras as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        extras = " ".join(
            f"{key}={value}"
            for key, value in record.__dict__.items()
            if key not in _RECORD_FIELDS and value is not None
        )
        text = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:7} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{text}  {extras}" if extras else text


_direct = False


def info(logger: str, message: str, fields: dict[str, Any]) -> None:
    """A record of level info; as JSON it is written at once, past logging's machinery.

    For what is logged once a request: a `LogRecord` costs as much as the request's own checks.
    """
    if not _direct:
        logging.getLogger(logger).info(message, extra=fields)
        return
    line = {
        "time": round(time.time(), 3),
        "level": "info",
        "logger": logger,
        "message": message,
        **fields,
    }
    with contextlib.suppress(BlockingIOError):  # a full pipe loses a line, not a request
        os.write(2, orjson.dumps(line, default=str) + b"\n")


def set_level(level: str) -> None:
    """Write records of `level` and above from now on; the form stays."""
    global _direct  # noqa: PLW0603 - as in `configure`
    root = logging.getLogger()
    as_json = any(isinstance(one.formatter, JsonFormatter) for one in root.handlers)
    _direct = as_json and logging.getLevelName(level.upper()) <= logging.INFO
    root.setLevel(level.upper())


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Send every record of `level` and above to stderr in this form."""
    global _direct  # noqa: PLW0603 - logging itself is configured once a process, too
    _direct = form == "json" and logging.getLevelName(level.upper()) <= logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn's own lines repeat ours; its warnings and errors do not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
