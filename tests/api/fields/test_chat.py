"""Rules of /v1/chat/completions, each with the path and code of its refusal."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from serve.api.fields import check_chat, texts
from serve.api.fields.checked import Checked
from serve.core.errors import InvalidRequest
from serve.settings.site import Limits

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> Checked:
    return check_chat({"model": "m", "messages": [USER], **fields}, Limits())


def refused(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert len(caught.value.message) < 400
    assert "\n" not in caught.value.message
    return caught.value.param, caught.value.code


def tool(name: str = "f", **more: Any) -> dict[str, Any]:
    function = {"name": name, "parameters": {"type": "object"}, **more}
    return {"type": "function", "function": function}


def test_a_plain_request_goes_on_as_it_came() -> None:
    checked = chat(temperature=0, max_tokens=5, stream=True)
    assert checked.engine_body == {
        "messages": [USER],
        "temperature": 0,
        "max_completion_tokens": 5,
    }
    assert checked.engine_body["messages"][0] is USER
    assert (checked.model, checked.stream, checked.n) == ("m", True, 1)
    assert (checked.max_output_tokens, checked.include_usage) == (5, False)
    assert not checked.has_tools


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"temperature": float("nan")}, "temperature", "decimal_below_min_value"),
        ({"top_p": 1.01}, "top_p", "decimal_above_max_value"),
        ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 17}, "n", "integer_above_max_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": 1.0}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens", "integer_above_max_value"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
        ({"min_tokens": 3, "max_tokens": 2}, "min_tokens", "integer_above_max_value"),
        ({"seed": 2**63}, "seed", "integer_above_max_value"),
        ({"seed": 1.5}, "seed", "invalid_type"),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "integer_above_max_value"),
        ({"logprobs": 1}, "logprobs", "invalid_type"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"stop": [""]}, "stop[0]", "empty_string"),
        ({"stop": "x" * 513}, "stop", "string_above_max_length"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"logit_bias": {"a": 1}}, "logit_bias.a", "invalid_value"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "decimal_above_max_value"),
        ({"logit_bias": {str(i): 0 for i in range(1025)}}, "logit_bias", "object_above_max_length"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "unsupported_value",
        ),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "unknown_parameter",
        ),
        ({"store": "yes"}, "store", "invalid_type"),
        ({"service_tier": "scale"}, "service_tier", "unsupported_value"),
        ({"service_tier": "gold"}, "service_tier", "invalid_value"),
        ({"verbosity": "low"}, "verbosity", "unsupported_value"),
        ({"modalities": ["text", "audio"]}, "modalities[1]", "unsupported_value"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "object_above_max_length"),
        ({"prediction": {"type": "other"}}, "prediction.type", "invalid_value"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools", "invalid_value"),
        ({"chat_template_kwargs": {"a": {}}}, "chat_template_kwargs.a", "invalid_type"),
        ({"continue_final_message": True}, "continue_final_message", "invalid_value"),
        ({"model": ""}, "model", "empty_string"),
        ({"model": 5}, "model", "invalid_type"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_path(
    fields: dict[str, Any], param: str, code: str
) -> None:
    assert refused(**fields) == (param, code)


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("hi", "messages[1]", "invalid_type"),
        ({"content": "x"}, "messages[1].role", "missing_required_parameter"),
        ({"role": 1, "content": "x"}, "messages[1].role", "invalid_type"),
        ({"role": "human", "content": "x"}, "messages[1].role", "invalid_value"),
        ({"role": "function", "content": "x"}, "messages[1].role", "unsupported_value"),
        ({"role": "user"}, "messages[1].content", "missing_required_parameter"),
        ({"role": "user", "content": 5}, "messages[1].content", "invalid_type"),
        ({"role": "user", "content": []}, "messages[1].content", "empty_array"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]", "invalid_type"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[1].content[0].image_url.url",
            "unsupported_value",
        ),
        (
            {"role": "user", "content": [{"type": ["text"], "text": "x"}]},
            "messages[1].content[0].type",
            "invalid_value",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": 1}]},
            "messages[1].content[0].text",
            "invalid_type",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "x", "uuid": "y"}]},
            "messages[1].content[0].uuid",
            "unknown_parameter",
        ),
        ({"role": "user", "content": "x", "task": "y"}, "messages[1].task", "unknown_parameter"),
        ({"role": "user", "content": "\ud800"}, "messages", "invalid_value"),
        ({"role": "assistant"}, "messages[1].content", "missing_required_parameter"),
        (
            {"role": "assistant", "content": "x", "function_call": {"name": "f"}},
            "messages[1].function_call",
            "unsupported_parameter",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]},
            "messages[1].tool_calls[0].type",
            "unsupported_value",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
            "messages[1].tool_calls[0].function.arguments",
            "missing_required_parameter",
        ),
        (
            {"role": "tool", "content": "x"},
            "messages[1].tool_call_id",
            "missing_required_parameter",
        ),
    ],
)
def test_a_bad_message_is_refused_by_its_path(message: Any, param: str, code: str) -> None:
    assert refused(messages=[USER, message]) == (param, code)


def test_there_is_at_least_one_message() -> None:
    assert refused(messages=[]) == ("messages", "empty_array")


def test_texts_of_every_role_are_counted_once() -> None:
    checked = chat(
        messages=[
            {"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "é"}], "name": "bo"},
            {
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "no"}],
                "tool_calls": None,
            },
            {"role": "tool", "content": "42", "tool_call_id": "c"},
        ]
    )
    assert list(texts(checked)) == ["a", "é", "no", "42"]
    assert checked.prompt_bytes == 7
    assert checked.engine_body["messages"][1]["name"] == "bo"


def test_an_answer_is_replayed_as_the_sdk_dumps_it() -> None:
    answer = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "reasoning_content": "thought",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        }
    )
    checked = chat(messages=[USER, answer.model_dump()])
    assert checked.engine_body["messages"][1] == {
        "role": "assistant",
        "content": None,
        "reasoning": "thought",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


def test_other_roles_fields_may_be_null() -> None:
    message = {"role": "user", "content": "x", "tool_calls": None, "function_call": None}
    assert chat(messages=[message]).engine_body["messages"] == [{"role": "user", "content": "x"}]


def test_a_refusal_is_something_the_assistant_said() -> None:
    said = {"role": "assistant", "content": None, "refusal": "I won't"}
    checked = chat(messages=[USER, said])
    assert checked.engine_body["messages"][1] == {"role": "assistant", "content": "I won't"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": []}, "tools", "empty_array"),
        ({"tools": [tool("f g")]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [tool("f" * 65)]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name", "invalid_value"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
            "tools[0].type",
            "unsupported_value",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [tool(strict=1)]}, "tools[0].function.strict", "invalid_type"),
        (
            {"tools": [tool(parameters={"type": "objekt"})]},
            "tools[0].function.parameters.type",
            "invalid_value",
        ),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_value"),
        ({"tools": [tool()], "tool_choice": "any"}, "tool_choice", "invalid_value"),
        (
            {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
            "invalid_value",
        ),
        (
            {"tools": [tool()], "tool_choice": {"type": "custom", "custom": {"name": "g"}}},
            "tool_choice.type",
            "unsupported_value",
        ),
        (
            {"tools": [tool()], "structured_outputs": {"choice": ["a"]}},
            "structured_outputs",
            "invalid_value",
        ),
    ],
)
def test_bad_tools_are_refused_by_their_path(fields: dict[str, Any], param: str, code: str) -> None:
    assert refused(**fields) == (param, code)


def test_strict_tools_are_told_apart() -> None:
    checked = chat(tools=[tool("a", strict=True), tool("b"), tool("c", strict=False)])
    assert checked.strict_tools == {"a": {"type": "object"}}
    assert checked.tool_names == ("a", "b", "c")
    assert (checked.tool_choice, checked.has_tools, checked.forced_tool) == ("auto", True, False)
    assert checked.engine_body["tool_choice"] == "auto"


def test_a_named_tool_is_forced() -> None:
    choice = {"type": "function", "function": {"name": "f"}}
    checked = chat(tools=[tool()], tool_choice=choice)
    assert checked.engine_body["tool_choice"] == choice
    assert (checked.forced_tool, checked.tool_choice) == (True, "named")


def test_allowed_tools_shorten_the_list() -> None:
    names = [{"type": "function", "function": {"name": "b"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": names}}
    checked = chat(tools=[tool("a", strict=True), tool("b")], tool_choice=choice)
    assert checked.engine_body["tools"] == [tool("b")]
    assert checked.engine_body["tool_choice"] == "required"
    assert (checked.tool_names, checked.strict_tools) == (("b",), {})


def test_no_tools_may_be_chosen_without_tools() -> None:
    checked = chat(tool_choice="none", parallel_tool_calls=True)
    assert checked.engine_body == {"messages": [USER]}


def test_top_p_zero_keeps_one_token() -> None:
    assert 0 < chat(top_p=0).engine_body["top_p"] < 1e-5


def test_a_continued_message_has_no_generation_prompt() -> None:
    messages = [USER, {"role": "assistant", "content": "So"}]
    body = chat(messages=messages, continue_final_message=True).engine_body
    assert body["add_generation_prompt"] is False


def test_logprobs_bring_their_number() -> None:
    body = chat(logprobs=True, top_logprobs=None).engine_body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 0)
    assert "top_logprobs" not in chat(top_logprobs=0).engine_body


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        ({"type": "xml"}, "response_format.type", "invalid_value"),
        ({}, "response_format.type", "missing_required_parameter"),
        ({"type": "text", "a": 1}, "response_format.a", "unknown_parameter"),
        ({"type": "json_schema"}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"type": "json_schema", "json_schema": {"name": "a"}},
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
            "response_format.json_schema.name",
            "invalid_value",
        ),
    ],
)
def test_a_bad_response_format_is_refused_by_its_path(value: Any, param: str, code: str) -> None:
    assert refused(response_format=value) == (param, code)


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        ({}, "structured_outputs", "invalid_value"),
        ({"json": {}, "regex": "a"}, "structured_outputs", "invalid_value"),
        ({"grammar": "root ::= a"}, "structured_outputs.grammar", "unsupported_parameter"),
        ({"choice": []}, "structured_outputs.choice", "empty_array"),
        ({"regex": "((a{1,99}){1,99}){1,99}"}, "structured_outputs.regex", "invalid_value"),
        ({"json_object": False}, "structured_outputs.json_object", "invalid_value"),
        ({"backend": "x"}, "structured_outputs.backend", "unknown_parameter"),
    ],
)
def test_bad_structured_outputs_are_refused_by_their_path(
    value: Any, param: str, code: str
) -> None:
    assert refused(structured_outputs=value) == (param, code)


def test_only_one_form_can_be_asked_for() -> None:
    both = {"structured_outputs": {"json": {}}, "response_format": {"type": "json_object"}}
    assert refused(**both) == ("structured_outputs", "invalid_value")
    assert chat(**{**both, "response_format": {"type": "text"}}).n == 1


def test_an_error_speaks_of_values_as_json_does() -> None:
    with pytest.raises(InvalidRequest, match=r"'modalities\[0\]' does not support true here"):
        chat(modalities=[True])
