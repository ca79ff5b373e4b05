import pytest

from serve.core.errors import EngineError
from serve.stream.finish import chat_finish, completion_finish


@pytest.mark.parametrize(
    ("reason", "called", "forced", "expected"),
    [
        ("stop", False, False, "stop"),
        ("stop", True, False, "tool_calls"),
        ("stop", True, True, "stop"),
        ("tool_calls", True, False, "tool_calls"),
        ("tool_calls", False, False, "stop"),
        ("tool_calls", True, True, "stop"),
        ("length", True, False, "length"),
        ("content_filter", False, False, "content_filter"),
    ],
)
def test_chat_reasons(reason: str, called: bool, forced: bool, expected: str) -> None:
    assert chat_finish(reason, called=called, forced=forced) == expected


@pytest.mark.parametrize("reason", ["abort", "error", "repetition", "None", ""])
def test_a_failure_is_never_a_clean_finish(reason: str) -> None:
    with pytest.raises(EngineError):
        chat_finish(reason, called=False, forced=False)
    with pytest.raises(EngineError):
        completion_finish(reason)


def test_a_completion_has_no_tool_calls() -> None:
    assert completion_finish("length") == "length"
    with pytest.raises(EngineError):
        completion_finish("tool_calls")
