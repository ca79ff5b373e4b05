import pytest

from serve.stream.toolcalls import CallStream, ToolCallInvalid, check_arguments, shape_calls

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
STRICT = {"weather": SCHEMA}


def first(index: int, name: str, arguments: str = "") -> dict[str, object]:
    return {
        "index": index,
        "id": f"call-{index}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def more(index: int, arguments: str) -> dict[str, object]:
    return {"index": index, "function": {"arguments": arguments}}


@pytest.mark.parametrize("arguments", ["[]", '"x"', "", "{", "null"])
def test_arguments_are_always_an_object(arguments: str) -> None:
    with pytest.raises(ToolCallInvalid, match="not a JSON object"):
        check_arguments("anything", arguments, {})


def test_strict_arguments_satisfy_their_schema() -> None:
    check_arguments("weather", '{"city":"Paris"}', STRICT)
    with pytest.raises(ToolCallInvalid, match="break its schema"):
        check_arguments("weather", '{"town":"Paris"}', STRICT)


def test_deltas_of_a_plain_tool_pass_as_they_come() -> None:
    calls = CallStream({})
    assert calls.feed([first(0, "weather")]) == [first(0, "weather")]
    assert calls.feed([more(0, '{"city":')]) == [more(0, '{"city":')]
    assert calls.feed([more(0, '"Oslo"}')]) == [more(0, '"Oslo"}')]
    assert calls.finish("tool_calls") == []
    assert calls.called


def test_a_strict_tool_waits_until_it_is_checked() -> None:
    calls = CallStream(STRICT)
    assert calls.feed([first(0, "weather")]) == []
    assert calls.feed([more(0, '{"city":"Oslo"}')]) == []
    assert calls.finish("tool_calls") == [first(0, "weather", '{"city":"Oslo"}')]


def test_a_strict_tool_that_breaks_its_schema_is_never_sent() -> None:
    calls = CallStream(STRICT)
    assert calls.feed([first(0, "weather", '{"town":1}')]) == []
    with pytest.raises(ToolCallInvalid):
        calls.finish("tool_calls")


def test_the_next_call_releases_the_one_before() -> None:
    calls = CallStream(STRICT)
    calls.feed([first(0, "weather", '{"city":"Oslo"}')])
    assert calls.feed([first(1, "other", "{}")]) == [
        first(0, "weather", '{"city":"Oslo"}'),
        first(1, "other", "{}"),
    ]


def test_plain_arguments_that_are_no_object_end_in_an_error() -> None:
    calls = CallStream({})
    calls.feed([first(0, "weather", "[1]")])
    with pytest.raises(ToolCallInvalid):
        calls.finish("stop")


def test_a_truncated_call_passes_with_its_reason() -> None:
    cut = [{"id": "a", "function": {"name": "weather", "arguments": '{"ci'}}]
    assert shape_calls(cut, "length", STRICT)[0]["function"]["arguments"] == '{"ci'
    with pytest.raises(ToolCallInvalid):
        shape_calls(cut, "tool_calls", STRICT)
