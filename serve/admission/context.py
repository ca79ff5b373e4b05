"""Does a prompt fit the model's context? Decided before an engine sees it.

A token is at least one byte, so most prompts are settled by their length. The rest are counted
with the model's own tokenizer, piece by piece, only until the bound is passed. The chat
template's tokens are not counted here: the count is a lower bound, and the few prompts between
the two are the engine's to refuse (same error, `serve.pipeline`).
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from serve.core.errors import ContextLengthExceeded

PIECE_CHARS: Final = 16_384
TEMPLATE_TOKENS_PER_TEXT: Final = 64
"""Generous allowance for what a chat template adds around one message."""


class ContextGuard:
    """Checks prompts against one model's context length, in tokens."""

    def __init__(self, context_tokens: int, tokenizer_file: Path | None) -> None:
        self._context_tokens = context_tokens
        self._file = tokenizer_file if tokenizer_file and tokenizer_file.is_file() else None
        self._tokenizer: Tokenizer | None = None

    async def check(self, texts: list[str], output_tokens: int | None, param: str) -> None:
        """Raise ContextLengthExceeded where texts and answer cannot fit.

        `texts` are the parts of one prompt; `output_tokens` is what the client asked for;
        `param` is the field that holds the prompt.
        """
        room = self._context_tokens - (output_tokens or 1)
        if room < 1:
            raise self._exceeded(0, output_tokens, param)
        size = sum(len(text) for text in texts)
        # A character is at most 4 bytes, and a token at least one byte.
        if 4 * size + TEMPLATE_TOKENS_PER_TEXT * len(texts) <= room or self._file is None:
            return
        counted = await asyncio.to_thread(self._count_past, texts, room)
        if counted > room:
            raise self._exceeded(counted, output_tokens, param)

    def check_tokens(self, tokens: int, output_tokens: int | None, param: str) -> None:
        """The same for a prompt that came as token ids."""
        if tokens + (output_tokens or 1) > self._context_tokens:
            raise self._exceeded(tokens, output_tokens, param)

    def _count_past(self, texts: Iterable[str], bound: int) -> int:
        """Tokens of the texts, counted until the bound is passed; a lower bound of the truth."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.from_file(str(self._file))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        counted = 0
        for text in texts:
            for start in range(0, len(text), PIECE_CHARS):
                piece = text[start : start + PIECE_CHARS]
                # A cut may split one token in two.
                cut = 1 if start else 0
                counted += len(self._tokenizer.encode(piece, add_special_tokens=False).ids) - cut
                if counted > bound:
                    return counted
        return counted

    def _exceeded(
        self, prompt_tokens: int, output_tokens: int | None, param: str
    ) -> ContextLengthExceeded:
        asked = f" and {output_tokens} for the answer" if output_tokens else ""
        return ContextLengthExceeded(
            f"This model's maximum context length is {self._context_tokens} tokens. The request "
            f"needs at least {prompt_tokens} tokens for the prompt{asked}. Shorten the prompt or "
            "ask for a shorter answer.",
            param=param,
        )
