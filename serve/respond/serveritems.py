"""Output items of the tools that this server calls itself: lists, calls, requests for approval."""

from typing import Any

from serve.respond.items import Emit, OpenItem

JSON = dict[str, Any]


def show_list(emit: Emit, place: int, item: JSON) -> None:
    """The events of a list of a server's tools; one with an `error` could not be had."""
    empty = {**item, "tools": [], "error": None}
    emit("response.output_item.added", {"output_index": place, "item": empty})
    here = {"item_id": item["id"], "output_index": place}
    emit("response.mcp_list_tools.in_progress", here)
    ended = "completed" if item["error"] is None else "failed"
    emit(f"response.mcp_list_tools.{ended}", here)
    emit("response.output_item.done", {"output_index": place, "item": item})


class ServerCall(OpenItem):
    """A call that this server makes. It stays open after its arguments, until it has a result."""

    def __init__(
        self, emit: Emit, place: int, item_id: str, label: str, name: str, approved: str | None
    ) -> None:
        item = {"id": item_id, "type": "mcp_call", "status": "in_progress",
                "approval_request_id": approved, "server_label": label, "name": name,
                "arguments": "", "output": None, "error": None}  # fmt: skip
        super().__init__(emit, place, item)
        self._arguments: list[str] = []
        self._say("response.mcp_call.in_progress", {})

    @property
    def place(self) -> int:
        """Where it stands in the output."""
        return self._place

    @property
    def label(self) -> str:
        """The server's."""
        return str(self._item["server_label"])

    @property
    def name(self) -> str:
        """The tool's, as its server knows it."""
        return str(self._item["name"])

    @property
    def arguments(self) -> str:
        """As the model wrote them."""
        return "".join(self._arguments)

    def add(self, arguments: str) -> None:
        self._arguments.append(arguments)
        self._say("response.mcp_call_arguments.delta", {"delta": arguments})

    def finish(self, status: str) -> JSON:
        """The end of its arguments; the item where they were cut off is at its end too."""
        self._item = {**self._item, "arguments": self.arguments}
        self._say("response.mcp_call_arguments.done", {"arguments": self.arguments})
        return self._item if status == "completed" else self._done(status, {})

    def succeed(self, output: str) -> JSON:
        """It has a result."""
        self._say("response.mcp_call.completed", {})
        return self._done("completed", {"output": output})

    def fail(self, error: JSON) -> JSON:
        """It came to nothing; the model is told why."""
        self._say("response.mcp_call.failed", {})
        return self._done("failed", {"error": error})

    def abandon(self) -> JSON:
        """Nobody waits for it any more."""
        return self._done("incomplete", {})


class ApprovalRequest(OpenItem):
    """A call that waits for the client's word. It has no events of its own until it is whole."""

    def __init__(self, emit: Emit, place: int, item_id: str, label: str, name: str) -> None:
        self._emit = emit
        self._place = place
        self._item = {"id": item_id, "type": "mcp_approval_request", "server_label": label,
                      "name": name, "arguments": ""}  # fmt: skip
        self._arguments: list[str] = []

    def add(self, arguments: str) -> None:
        self._arguments.append(arguments)

    def finish(self, status: str) -> JSON:
        del status  # it has none
        item = {**self._item, "arguments": "".join(self._arguments)}
        self._emit("response.output_item.added", {"output_index": self._place, "item": item})
        self._emit("response.output_item.done", {"output_index": self._place, "item": item})
        return item
