"""Items of the tools that this server calls, as clients send them back."""

from typing import Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import ID_MAX_CHARS, JSON, NAME_MAX_CHARS
from serve.api.fields.responses.heads import STATUSES, head, status_of
from serve.api.fields.responses.parts import known, required_text

SERVER_TOOLS_MAX: Final = 1024
"""Tools in one replayed list of a server's tools."""


def read_call(item: JSON, path: str) -> JSON:
    known(item, path, _MCP_CALL_KEYS)
    kept = head(item, path, "mcp_call")
    kept["status"] = status_of(item, path, (*STATUSES, "calling", "failed"))
    approved = item.get("approval_request_id")
    kept["approval_request_id"] = (
        None
        if approved is None
        else checks.text(approved, f"{path}.approval_request_id", ID_MAX_CHARS)
    )
    kept["server_label"] = required_text(item, "server_label", path, NAME_MAX_CHARS)
    kept["name"] = required_text(item, "name", path, NAME_MAX_CHARS)
    kept["arguments"] = required_text(item, "arguments", path)
    output = item.get("output")
    kept["output"] = (
        None if output is None else checks.text(output, f"{path}.output", checks.INT32_MAX)
    )
    error = item.get("error")
    if error is not None and type(error) not in (str, dict):
        raise faults.wrong_type(f"{path}.error", "an object", error)
    kept["error"] = error
    return kept


def read_approval_request(item: JSON, path: str) -> JSON:
    known(item, path, frozenset({"id", "type", "server_label", "name", "arguments"}))
    kept: JSON = {"id": required_text(item, "id", path, ID_MAX_CHARS)}
    kept["type"] = "mcp_approval_request"
    kept["server_label"] = required_text(item, "server_label", path, NAME_MAX_CHARS)
    kept["name"] = required_text(item, "name", path, NAME_MAX_CHARS)
    kept["arguments"] = required_text(item, "arguments", path)
    return kept


def read_approval_response(item: JSON, path: str) -> JSON:
    known(item, path, frozenset({"id", "type", "approval_request_id", "approve", "reason"}))
    kept = head(item, path, "mcp_approval_response")
    kept["approval_request_id"] = required_text(item, "approval_request_id", path, ID_MAX_CHARS)
    if item.get("approve") is None:
        raise faults.missing(f"{path}.approve")
    kept["approve"] = checks.boolean().run(item["approve"], f"{path}.approve")
    reason = item.get("reason")
    kept["reason"] = None if reason is None else checks.text(reason, f"{path}.reason", 65_536)
    return kept


def read_list(item: JSON, path: str) -> JSON:
    known(item, path, frozenset({"id", "type", "server_label", "tools", "error"}))
    kept = head(item, path, "mcp_list_tools")
    kept["server_label"] = required_text(item, "server_label", path, NAME_MAX_CHARS)
    tools = checks.array(item.get("tools"), f"{path}.tools", SERVER_TOOLS_MAX)
    for place, tool in enumerate(tools):
        if type(tool) is not dict:
            raise faults.wrong_type(f"{path}.tools[{place}]", "an object", tool)
    kept["tools"] = tools
    error = item.get("error")
    kept["error"] = None if error is None else checks.text(error, f"{path}.error", 65_536)
    return kept


_MCP_CALL_KEYS: Final = frozenset(
    {"id", "type", "status", "server_label", "name", "arguments", "output", "error",
     "approval_request_id"}
)  # fmt: skip
