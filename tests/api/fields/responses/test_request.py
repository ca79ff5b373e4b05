"""Rules between the fields of a Responses request, and its tools."""

from typing import Any

import pytest
from openai.types.responses import Response, ResponseFormatTextJSONSchemaConfig

from serve.api.fields import check_compact, check_input_tokens, check_response
from serve.core.errors import InvalidRequest
from serve.respond.asked import Asked
from serve.settings.site import Limits
from serve.toolservers.records import Terms

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = {"type": "function", "name": "f", "parameters": SCHEMA}
OTHER = {"type": "function", "name": "h", "parameters": SCHEMA, "strict": False}
CUSTOM = {"type": "custom", "name": "g", "description": "writes"}
MCP = {"type": "mcp", "server_label": "docs"}
DOCS = {"docs": Terms()}
FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


def ask(**fields: Any) -> Asked:
    return check_response({"model": "m", "input": "hi", **fields}, Limits())


def refused(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert len(caught.value.message) < 400
    assert "\n" not in caught.value.message
    return caught.value.param, caught.value.code


def functions(asked: Asked) -> list[dict[str, Any]]:
    return [tool["function"] for tool in asked.engine_body["tools"]]


def test_what_is_not_asked_has_the_apis_defaults() -> None:
    asked = ask()
    assert (asked.store, asked.stream, asked.background, asked.truncate) == (
        True, False, False, False,
    )  # fmt: skip
    assert asked.engine_body == {}
    assert asked.include == frozenset()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        (
            {"previous_response_id": "resp_1", "conversation": "conv_1"},
            "previous_response_id",
            "mutually_exclusive_parameters",
        ),
        ({"background": True, "store": False}, "background", "invalid_value"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"input": {}}, "input", "invalid_type"),
        ({"conversation": {}}, "conversation.id", "missing_required_parameter"),
        ({"conversation": {"id": "c", "x": 1}}, "conversation.x", "unknown_parameter"),
        ({"conversation": ""}, "conversation", "empty_string"),
        ({"include": ["usage"]}, "include[0]", "invalid_value"),
        ({"include": [["a"]]}, "include[0]", "invalid_value"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context", "unsupported_value"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode", "unsupported_value"),
        ({"reasoning": {"mode": 1}}, "reasoning.mode", "invalid_type"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "unsupported_value"),
        ({"text": {"format": {}}}, "text.format.type", "missing_required_parameter"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "x"}}}},
            "text.format.schema.type",
            "invalid_value",
        ),
        (
            {"background_options": {"completion_window": "8h"}},
            "background_options.completion_window",
            "unsupported_value",
        ),
        (
            {"prompt_cache_options": {"prewarm": True}},
            "prompt_cache_options.prewarm",
            "unsupported_value",
        ),
        (
            {"prompt_cache_options": {"comparison_response_id": "resp_1"}},
            "prompt_cache_options.comparison_response_id",
            "unsupported_parameter",
        ),
        (
            {"image": {"context_compression": "enabled"}},
            "image.context_compression",
            "unsupported_value",
        ),
        ({"service_tier": "fast"}, "service_tier", "unsupported_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"min_tokens": 5, "max_output_tokens": 4}, "min_tokens", "integer_above_max_value"),
        (
            {"structured_outputs": {"regex": "a"}, "text": {"format": {"type": "json_object"}}},
            "structured_outputs",
            "invalid_value",
        ),
        (
            {"structured_outputs": {"regex": "a"}, "tools": [TOOL]},
            "structured_outputs",
            "invalid_value",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    fields: dict[str, Any], param: str, code: str
) -> None:
    assert refused(**fields) == (param, code)


@pytest.mark.parametrize("source", ["previous_response_id", "conversation"])
def test_a_history_needs_no_input(source: str) -> None:
    assert check_response({"model": "m", source: "x_1"}, Limits()).items == ()


def test_log_probabilities_are_asked_for_by_include() -> None:
    named = ["message.output_text.logprobs"]
    assert ask(include=named).engine_body == {"logprobs": True, "top_logprobs": 0}
    assert ask(include=named, top_logprobs=3).engine_body == {"logprobs": True, "top_logprobs": 3}
    assert ask(top_logprobs=3).engine_body == {}
    assert ask(top_logprobs=3).echo["top_logprobs"] == 3


def test_a_schema_goes_to_the_engine_as_a_chat_has_it() -> None:
    given = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
    asked = ask(text={"format": given})
    assert asked.engine_body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
    }
    shown = asked.echo["text"]["format"]
    assert shown == given
    assert ResponseFormatTextJSONSchemaConfig.model_validate(shown).schema_ == SCHEMA


def test_plain_text_asks_nothing_of_the_engine() -> None:
    asked = ask(text={"format": {"type": "text"}})
    assert asked.engine_body == {}
    assert asked.echo["text"] == {"format": {"type": "text"}, "verbosity": "medium"}


def test_a_schema_that_does_not_say_is_shown_as_not_strict() -> None:
    given = {"type": "json_schema", "name": "n", "schema": SCHEMA}
    asked = ask(text={"format": given})
    assert asked.echo["text"]["format"] == {**given, "strict": False}
    assert "strict" not in asked.engine_body["response_format"]["json_schema"]


def test_an_older_name_of_summary_is_taken() -> None:
    asked = ask(reasoning={"generate_summary": "concise"})
    assert asked.echo["reasoning"] == {"effort": None, "summary": "concise"}
    assert asked.engine_body == {}


def test_a_top_p_of_nothing_is_repeated_as_it_came() -> None:
    assert ask(top_p=0).echo["top_p"] == 0


@pytest.mark.parametrize("strict", [None, True])
def test_a_function_is_strict_where_it_does_not_say(strict: bool | None) -> None:
    asked = ask(tools=[{**TOOL, "strict": strict}])
    assert functions(asked) == [{"name": "f", "parameters": SCHEMA, "strict": True}]
    assert asked.strict_tools == {"f": SCHEMA}
    assert asked.echo["tools"] == [{**TOOL, "description": None, "strict": True}]


def test_a_schema_that_cannot_be_held_is_strict_only_where_that_was_asked() -> None:
    loose = {"$id": "http://x/y", **SCHEMA}
    asked = ask(tools=[{**TOOL, "parameters": loose}])
    assert functions(asked)[0]["strict"] is False
    assert asked.strict_tools == {}
    assert asked.echo["tools"][0]["strict"] is False
    assert refused(tools=[{**TOOL, "parameters": loose, "strict": True}]) == (
        "tools[0].parameters.$id",
        "unsupported_parameter",
    )


@pytest.mark.parametrize(
    ("strict", "parameters"),
    [
        (None, {"type": "object", "properties": {}, "additionalProperties": False}),
        (False, {"type": "object", "properties": {}}),
    ],
)
def test_a_function_without_parameters_takes_none(
    strict: bool | None, parameters: dict[str, Any]
) -> None:
    asked = ask(tools=[{"type": "function", "name": "f", "parameters": None, "strict": strict}])
    assert functions(asked)[0]["parameters"] == parameters


def test_a_custom_tool_is_a_function_of_one_text() -> None:
    asked = ask(tools=[CUSTOM])
    assert functions(asked) == [
        {"name": "g", "description": "writes", "parameters": FREE_TEXT, "strict": True}
    ]
    assert asked.custom_tools == {"g"}
    assert asked.strict_tools == {"g": FREE_TEXT}
    assert asked.echo["tools"] == [{**CUSTOM, "format": {"type": "text"}}]


def test_a_server_of_the_sites_is_left_to_the_run() -> None:
    given = {**MCP, "allowed_tools": {"tool_names": ["a"]}}
    shown = {**given, "require_approval": "never"}
    body = {"model": "m", "input": "hi", "tools": [given], "tool_choice": "required"}
    asked = check_response(body, Limits(), DOCS)
    assert asked.server_tools == (shown,)
    assert asked.engine_body == {}
    assert asked.echo["tools"] == [shown]
    assert asked.echo["tool_choice"] == "required"
    del body["tool_choice"]
    assert check_input_tokens(body, Limits(), DOCS).server_tools == (shown,)


def test_a_server_that_the_site_does_not_name_is_refused() -> None:
    assert refused(tools=[TOOL, MCP]) == ("tools[1].server_label", "invalid_value")
    with pytest.raises(InvalidRequest, match=r"'docs' for you; it has files, mail\."):
        check_response(
            {"model": "m", "input": "hi", "tools": [MCP]},
            Limits(),
            {"files": Terms(), "mail": Terms()},
        )


def with_server(terms: Terms, **tool: Any) -> Any:
    body = {"model": "m", "input": "hi", "tools": [{**MCP, **tool}]}
    (found,) = check_response(body, Limits(), {"docs": terms}).server_tools
    return found["require_approval"]


def test_who_approves() -> None:
    """The site's word holds where the request has none, and cannot be relaxed."""
    assert with_server(Terms()) == "never"
    assert with_server(Terms("always")) == "always"
    assert with_server(Terms(), require_approval="always") == "always"
    filters = {"never": {"tool_names": ["a"]}, "always": {"read_only": False}}
    assert with_server(Terms(), require_approval=filters) == filters
    for relaxed in ("never", filters):
        with pytest.raises(InvalidRequest) as caught:
            with_server(Terms("always"), require_approval=relaxed)
        assert caught.value.param == "tools[0].require_approval"


def test_a_function_that_a_servers_tool_would_be_taken_for() -> None:
    body = {"model": "m", "input": "hi", "tools": [MCP, {**TOOL, "name": "docs__f"}]}
    with pytest.raises(InvalidRequest, match="rename it"):
        check_response(body, Limits(), DOCS)


def test_a_server_is_chosen_by_its_label() -> None:
    body = {"model": "m", "input": "hi", "tools": [TOOL, MCP]}
    choice = {"type": "mcp", "server_label": "docs", "name": "look.up"}
    asked = check_response({**body, "tool_choice": choice}, Limits(), DOCS)
    assert asked.choice == choice == asked.echo["tool_choice"]
    assert "tool_choice" not in asked.engine_body
    allowed = {**ALLOWED, "tools": [{"type": "mcp", "server_label": "docs"}]}
    asked = check_response({**body, "tool_choice": allowed}, Limits(), DOCS)
    assert (len(asked.server_tools), "tools" in asked.engine_body) == (1, False)
    for wrong in ({**choice, "server_label": "x"}, {**allowed, "tools": [choice]}):
        with pytest.raises(InvalidRequest) as caught:
            check_response({**body, "tool_choice": wrong}, Limits(), DOCS)
        assert (caught.value.param or "").startswith("tool_choice")


def named(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "name": name}


@pytest.mark.parametrize(
    ("choice", "sent", "shown", "forced"),
    [
        (None, "auto", ["f", "g", "h"], False),
        ("none", "none", ["f", "g", "h"], False),
        ("required", "required", ["f", "g", "h"], False),
        (named("function", "f"), "f", ["f", "g", "h"], True),
        (named("custom", "g"), "g", ["f", "g", "h"], True),
        (
            {"type": "allowed_tools", "mode": "required",
             "tools": [named("custom", "g"), named("function", "h")]},
            "required",
            ["g", "h"],
            False,
        ),
    ],
)  # fmt: skip
def test_a_choice_of_tools(choice: Any, sent: str, shown: list[str], forced: bool) -> None:
    asked = ask(tools=[TOOL, CUSTOM, OTHER], tool_choice=choice)
    expected = {"type": "function", "function": {"name": sent}} if forced else sent
    assert asked.engine_body["tool_choice"] == expected
    assert [one["name"] for one in functions(asked)] == shown
    assert asked.choice == expected
    assert set(asked.strict_tools) == set(shown) & {"f", "g"}
    assert asked.echo["tool_choice"] == (choice or "auto")
    assert [one["name"] for one in asked.echo["tools"]] == ["f", "g", "h"]


def test_what_is_not_allowed_is_not_there() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [named("function", "f")]}
    body = {"model": "m", "input": "hi", "tools": [TOOL, CUSTOM, MCP], "tool_choice": choice}
    asked = check_response(body, Limits(), DOCS)
    assert (asked.custom_tools, asked.server_tools) == (frozenset(), ())
    assert [one["name"] for one in functions(asked)] == ["f"]
    assert len(asked.echo["tools"]) == 3


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_mode_may_be_named_without_tools(choice: str) -> None:
    asked = ask(tools=[], tool_choice=choice, parallel_tool_calls=True)
    assert asked.engine_body == {}
    assert asked.echo["tool_choice"] == choice


ALLOWED = {"type": "allowed_tools", "mode": "auto"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [1]}, "tools[0]", "invalid_type"),
        ({"tools": [{}]}, "tools[0].type", "missing_required_parameter"),
        ({"tools": [{"type": "x"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": []}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_value"),
        ({"tools": [{"type": "apply_patch"}]}, "tools[0].type", "unsupported_value"),
        ({"tools": [{"type": "namespace"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name", "invalid_value"),
        ({"tools": [{**TOOL, "function": {}}]}, "tools[0].function", "unknown_parameter"),
        ({"tools": [{**TOOL, "strict": 1}]}, "tools[0].strict", "invalid_type"),
        ({"tools": [{**TOOL, "async": True}]}, "tools[0].async", "unsupported_value"),
        ({"tools": [{**TOOL, "output_schema": 1}]}, "tools[0].output_schema", "invalid_type"),
        (
            {"tools": [{**TOOL, "defer_loading": True}]},
            "tools[0].defer_loading",
            "unsupported_value",
        ),
        (
            {"tools": [{**TOOL, "allowed_callers": ["programmatic"]}]},
            "tools[0].allowed_callers",
            "unsupported_value",
        ),
        (
            {"tools": [{**TOOL, "parameters": {"type": "x"}}]},
            "tools[0].parameters.type",
            "invalid_value",
        ),
        ({"tools": [TOOL, {**CUSTOM, "name": "f"}]}, "tools[1].name", "invalid_value"),
        (
            {"tools": [{**CUSTOM, "format": {"type": "grammar", "syntax": "regex"}}]},
            "tools[0].format.type",
            "unsupported_value",
        ),
        ({"tools": [{**CUSTOM, "format": {}}]}, "tools[0].format.type", "invalid_value"),
        ({"tools": [{"type": "mcp"}]}, "tools[0].server_label", "missing_required_parameter"),
        ({"tools": [MCP, MCP]}, "tools[1].server_label", "invalid_value"),
        (
            {"tools": [{**MCP, "server_url": "http://x"}]},
            "tools[0].server_url",
            "unsupported_parameter",
        ),
        (
            {"tools": [{**MCP, "headers": {"a": "b"}}]},
            "tools[0].headers",
            "unsupported_parameter",
        ),
        (
            {"tools": [{**MCP, "require_approval": "sometimes"}]},
            "tools[0].require_approval",
            "invalid_value",
        ),
        ({"tools": [{**MCP, "allowed_tools": 1}]}, "tools[0].allowed_tools", "invalid_type"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "some"}, "tool_choice", "invalid_value"),
        ({"tool_choice": 1}, "tool_choice", "invalid_type"),
        ({"tool_choice": named("function", "f")}, "tool_choice", "invalid_value"),
        (
            {"tools": [TOOL], "tool_choice": named("function", "x")},
            "tool_choice.name",
            "invalid_value",
        ),
        (
            {"tools": [TOOL], "tool_choice": named("custom", "f")},
            "tool_choice.name",
            "invalid_value",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "web_search"}},
            "tool_choice.type",
            "unsupported_value",
        ),
        (
            {"tools": [TOOL], "tool_choice": {**ALLOWED, "tools": []}},
            "tool_choice.tools",
            "empty_array",
        ),
        (
            {"tools": [TOOL], "tool_choice": {**ALLOWED, "tools": [named("function", "x")]}},
            "tool_choice.tools[0].name",
            "invalid_value",
        ),
        (
            {"tools": [TOOL], "tool_choice": {**ALLOWED, "tools": [{"type": "mcp"}]}},
            "tool_choice.tools[0].server_label",
            "missing_required_parameter",
        ),
    ],
)
def test_a_tool_is_refused_by_its_path(fields: dict[str, Any], param: str, code: str) -> None:
    assert refused(**fields) == (param, code)


def test_the_echo_is_what_the_sdk_reads() -> None:
    body = {
        "model": "m",
        "input": "hi",
        "tools": [TOOL, CUSTOM, {**MCP, "server_description": "d"}],
        "tool_choice": {**ALLOWED, "tools": [named("custom", "g")]},
        "conversation": "conv_1",
        "reasoning": {"effort": "low"},
        "prompt_cache_options": {"mode": "explicit", "ttl": "12h"},
        "user": "u",
    }
    asked = check_response(body, Limits(), DOCS)
    whole = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [],
        "status": "completed", "error": None, "incomplete_details": None,
    }  # fmt: skip
    read = Response.model_validate({**whole, **asked.echo})
    assert [type(tool).__name__ for tool in read.tools] == ["FunctionTool", "CustomTool", "Mcp"]
    assert read.conversation is not None
    assert read.conversation.id == "conv_1"


def test_counting_asks_for_the_same_prompt() -> None:
    fields = {"model": "m", "input": "hi", "instructions": "Be kind.", "tools": [TOOL]}
    counted = check_input_tokens(fields, Limits())
    asked = check_response(fields, Limits())
    assert counted.engine_body == asked.engine_body
    assert (counted.instructions, len(counted.items)) == ("Be kind.", 1)


def test_compacting_goes_on_from_a_response() -> None:
    asked = check_compact({"model": "m", "previous_response_id": "resp_1"}, Limits())
    assert (asked.previous_response_id, asked.items, asked.engine_body) == ("resp_1", (), {})
