"""What all items have in front: their id, their type and their status."""

from collections.abc import Mapping
from typing import Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import ID_MAX_CHARS, JSON
from serve.core.ids import new_id

STATUSES: Final = ("in_progress", "completed", "incomplete")
PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_response": "mcpa",
    "compaction": "cmp",
}


def head(item: JSON, path: str, kind: str) -> JSON:
    """An item's id, made where there is none, and its type."""
    given = item.get("id")
    if given is None:
        return {"id": new_id(PREFIXES[kind]), "type": kind}
    return {"id": checks.text(given, f"{path}.id", ID_MAX_CHARS, 1), "type": kind}


def status_of(item: JSON, path: str, allowed: tuple[str, ...] | None = None) -> str:
    status = item.get("status")
    if status is None:
        return "completed"
    if status not in (allowed or STATUSES):
        raise faults.not_one_of(f"{path}.status", status, allowed or STATUSES)
    return str(status)
