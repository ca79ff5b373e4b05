"""Names and terms of the tools that a turn offers."""

import re

import pytest

from serve.core.call import Principal
from serve.respond.kept import asked_of, request_of
from serve.respond.offer import Offer, engine_name, offered_of
from serve.state.records import ResponseRecord
from serve.toolservers.records import Terms, Tool
from tests.respond.rig import JSON, asked

READ = Tool("look", "looks", {}, {"readOnlyHint": True})
WRITE = Tool("put", None, {})
DESK: JSON = {"server_label": "desk", "require_approval": "never"}


@pytest.mark.parametrize(
    ("label", "tool"), [("desk", "get.variable"), ("desk", "ü"), ("a" * 32, "b" * 100)]
)
def test_a_name_is_one_for_the_engine(label: str, tool: str) -> None:
    name = engine_name(label, tool)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
    assert name == engine_name(label, tool)
    assert name.startswith(f"{label}__"[:55])


def test_names_that_look_alike_stay_apart() -> None:
    assert engine_name("desk", "add") == "desk__add"
    found = {engine_name("desk", tool) for tool in ("a.b", "a_b", "a/b", "x" * 70, "x" * 71)}
    assert len(found) == 5


@pytest.mark.parametrize(
    ("approval", "site", "waiting"),
    [
        ("never", "never", []),
        ("always", "never", ["look", "put"]),
        ("never", "always", ["look", "put"]),
        ({"always": {"tool_names": ["put"]}}, "never", ["put"]),
        ({"never": {"read_only": True}}, "never", ["put"]),
        ({"always": {"read_only": True}, "never": {"tool_names": ["put"]}}, "never", ["look"]),
        ({}, "never", []),
    ],
)
def test_which_calls_wait(approval: object, site: str, waiting: list[str]) -> None:
    terms = Terms("always" if site == "always" else "never")
    offered = offered_of({**DESK, "require_approval": approval}, [READ, WRITE], terms)
    assert [one.tool.name for one in offered if one.approval] == waiting


def test_without_servers_nothing_is_said_of_tools() -> None:
    assert Offer(asked()).body(first=True) == {}


def test_a_request_is_kept_whole() -> None:
    choice = {"type": "mcp", "server_label": "desk", "name": None}
    before = asked(server_tools=(DESK,), choice=choice, max_tool_calls=3)
    request = request_of(before, Principal("ann", "lab"), "req_1")
    record = ResponseRecord(
        "resp_1", "lab", 0.0, None, {}, before.items, None, None, background=True, request=request
    )
    assert asked_of(record) == (before, Principal("ann", "lab"), "req_1")
