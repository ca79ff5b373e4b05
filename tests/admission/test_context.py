"""Prompts against the context length, with a small real tokenizer."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from serve.admission import context
from serve.admission.context import ContextGuard
from serve.core.errors import ContextLengthExceeded


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """One token a word."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


async def test_short_prompts_are_settled_without_a_tokenizer(tmp_path: Path) -> None:
    guard = ContextGuard(1000, tmp_path / "absent.json")
    await guard.check(["word " * 10], None, "messages")
    assert guard._tokenizer is None


async def test_long_prompts_are_counted(tokenizer_file: Path) -> None:
    guard = ContextGuard(100, tokenizer_file)
    await guard.check(["word " * 99], None, "messages")
    with pytest.raises(ContextLengthExceeded, match="100 tokens") as caught:
        await guard.check(["word " * 60, "word " * 60], None, "messages")
    assert caught.value.code == "context_length_exceeded"


async def test_the_answer_counts_too(tokenizer_file: Path) -> None:
    guard = ContextGuard(100, tokenizer_file)
    await guard.check(["word " * 50], 50, "messages")
    with pytest.raises(ContextLengthExceeded):
        await guard.check(["word " * 51], 50, "messages")
    with pytest.raises(ContextLengthExceeded):
        await guard.check(["a"], 100, "messages")


async def test_counting_stops_soon_after_the_bound(
    tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PIECE_CHARS", 50)
    guard = ContextGuard(100, tokenizer_file)
    counted = guard.count_past(["word " * 10_000], 100)
    assert 100 < counted < 130


def test_token_prompts(tmp_path: Path) -> None:
    guard = ContextGuard(100, None)
    guard.check_tokens(99, None, "messages")
    with pytest.raises(ContextLengthExceeded):
        guard.check_tokens(100, None, "messages")


async def test_what_generates_nothing_may_fill_the_context(tokenizer_file: Path) -> None:
    guard = ContextGuard(100, tokenizer_file)
    await guard.check(["word " * 100], 0, "input")
    guard.check_tokens(100, 0, "input")
    with pytest.raises(ContextLengthExceeded):
        await guard.check(["word " * 101], 0, "input")
    with pytest.raises(ContextLengthExceeded):
        guard.check_tokens(101, 0, "input")
