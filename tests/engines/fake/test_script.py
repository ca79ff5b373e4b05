"""What a fake engine calls, from the words of a prompt."""

from typing import Any

from serve.engines.fake.knobs import Knobs
from serve.engines.fake.script import Script, script_of


def scripted(text: str, *more: dict[str, Any], **fields: Any) -> Script:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    messages = [{"role": "user", "content": text}, *more]
    return script_of({"messages": messages, "tools": tools, **fields}, Knobs())


def test_tools_are_called_where_they_may_be() -> None:
    assert scripted("fake:call=b").tools == ("b",)
    assert scripted("fake:call=a,b,c,a").tools == ("a", "b", "a")
    assert scripted("fake:call=b", tool_choice="none").tools == ()
    assert scripted("x", tool_choice="required").tools == ("a",)
    assert scripted("fake:call=b", tool_choice="required").tools == ("b",)
    assert scripted("x").tools == ()


def test_so_often_since_the_user_spoke() -> None:
    result = {"role": "tool", "content": "it is 5"}
    asked = "fake:call=a fake:times=1 fake:echo"
    assert scripted(asked).tools == ("a",)
    after = scripted(asked, result)
    assert (after.tools, after.words) == ((), ["it", "is", "5"])
    assert scripted(asked, result, {"role": "user", "content": "again"}).tools == ("a",)
    assert scripted("fake:call=a", result, result).tools == ("a",)
