"""What is written down of each call of a tool, in the log and in the audit log: who had it made,
and how it ended.

Arguments and results are in it by their digests only: they can be compared, not read.
"""

import hashlib
from typing import Final

import orjson

from serve import log
from serve.core.audit import Trail
from serve.toolservers.records import ToolCall

LOGGER: Final = "inhouse.audit"


def write(trail: Trail, call: ToolCall, outcome: str, took_s: float, result: str | None) -> None:
    """One line and one record for one call, however it ended."""
    arguments = orjson.dumps(call.arguments, option=orjson.OPT_SORT_KEYS)
    said = {
        "request_id": call.request_id,
        "tenant": call.principal.tenant,
        "key": call.principal.key,
        "server": call.server,
        "tool": call.tool,
        "outcome": outcome,
        "duration_ms": round(took_s * 1000, 2),
        "arguments_sha256": hashlib.sha256(arguments).hexdigest(),
        "result_sha256": None if result is None else hashlib.sha256(result.encode()).hexdigest(),
    }
    log.info(LOGGER, "tool call", said)
    trail.record("tool.call", said)
