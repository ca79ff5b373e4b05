"""What fits of a conversation, counted with a real tokenizer."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from serve.admission.context import ContextGuard
from serve.core.errors import ContextLengthExceeded
from serve.respond.context import fitting
from tests.respond.rig import asked, user


@pytest.fixture
def guard(tmp_path: Path) -> ContextGuard:
    """Of a model of 400 tokens, each of them a word."""
    tokenizer = Tokenizer(WordLevel({"w": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return ContextGuard(400, tmp_path / "tokenizer.json")


async def test_as_much_as_fits_stays(guard: ContextGuard) -> None:
    items = [user("w " * 60, f"msg_{i}") for i in range(10)]
    request = asked(truncate=True, max_output_tokens=100)
    messages, dropped = await fitting(request, items, guard, 400)
    assert (len(messages), dropped) == (4, 6)
    messages, dropped = await fitting(request, items, guard, 400, 7)
    assert (len(messages), dropped) == (3, 7)


async def test_what_fits_is_left_alone(guard: ContextGuard) -> None:
    items = [user("w", f"msg_{i}") for i in range(3)]
    messages, dropped = await fitting(asked(truncate=True), items, guard, 400)
    assert (len(messages), dropped) == (3, 0)
    messages, dropped = await fitting(asked(truncate=True), [], guard, 400)
    assert (messages, dropped) == ([], 0)


async def test_the_newest_item_stays_even_where_it_is_too_long(guard: ContextGuard) -> None:
    items = [user("w " * 60), user("w " * 500, "msg_2")]
    with pytest.raises(ContextLengthExceeded):
        await fitting(asked(truncate=True), items, guard, 400)


async def test_without_truncation_nothing_is_dropped(guard: ContextGuard) -> None:
    items = [user("w " * 60, f"msg_{i}") for i in range(10)]
    with pytest.raises(ContextLengthExceeded):
        await fitting(asked(), items, guard, 400)


async def test_an_output_goes_with_its_call_even_where_ids_come_again(guard: ContextGuard) -> None:
    def call(words: str) -> dict[str, object]:
        said = {"type": "function_call", "call_id": "call_1", "name": "look"}
        return said | {"arguments": f'{{"for": "{words}"}}'}

    def output(words: str) -> dict[str, object]:
        return {"type": "function_call_output", "call_id": "call_1", "output": words}

    items = [call("w " * 200), output("first"), user("w"), call("w"), output("second"), user("w")]
    messages, dropped = await fitting(asked(truncate=True), items, guard, 400, 1)
    assert dropped == 1
    assert [one["content"] for one in messages if one["role"] == "tool"] == ["second"]
