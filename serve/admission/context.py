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
        self._can_count = self._file is not None
        self._narrower: dict[int, ContextGuard] = {}
        self._says = f"This model's maximum context length is {context_tokens} tokens"

    @property
    def context_tokens(self) -> int:
        """The longest prompt plus answer."""
        return self._context_tokens

    @property
    def can_count(self) -> bool:
        """Whether there is a tokenizer."""
        return self._can_count

    def within(self, context_tokens: int) -> "ContextGuard":
        """The guard for those who may use no more of the context than this."""
        if context_tokens >= self._context_tokens:
            return self
        guard = self._narrower.get(context_tokens)
        if guard is None:
            guard = self._narrower[context_tokens] = NarrowGuard(self, context_tokens)
        return guard

    async def check(self, texts: list[str], output_tokens: int | None, param: str | None) -> None:
        """Raise ContextLengthExceeded where texts and answer cannot fit.

        `texts` are the parts of one prompt; `output_tokens` is what the client asked for, 0 where
        nothing is generated; `param` is the field that holds the prompt, where it is known.
        """
        room = self._context_tokens - (1 if output_tokens is None else output_tokens)
        if room < 1:
            raise self._exceeded(0, output_tokens, param)
        size = sum(len(text) for text in texts)
        # A character is at most 4 bytes, and a token at least one byte.
        if 4 * size + TEMPLATE_TOKENS_PER_TEXT * len(texts) <= room or not self._can_count:
            return
        counted = await asyncio.to_thread(self.count_past, texts, room)
        if counted > room:
            raise self._exceeded(counted, output_tokens, param)

    def check_tokens(self, tokens: int, output_tokens: int | None, param: str | None) -> None:
        """The same for a prompt that came as token ids."""
        if tokens + (1 if output_tokens is None else output_tokens) > self._context_tokens:
            raise self._exceeded(tokens, output_tokens, param)

    def count_past(self, texts: Iterable[str], bound: int) -> int:
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
        self, prompt_tokens: int, output_tokens: int | None, param: str | None
    ) -> ContextLengthExceeded:
        asked = f" and {output_tokens} for the answer" if output_tokens else ""
        return ContextLengthExceeded(
            f"{self._says}. The request needs at least {prompt_tokens} tokens for the "
            f"prompt{asked}. Shorten the prompt or ask for a shorter answer.",
            param=param,
        )


class NarrowGuard(ContextGuard):
    """For tenants whose limits are narrower than a model's context."""

    def __init__(self, whole: ContextGuard, context_tokens: int) -> None:
        super().__init__(context_tokens, None)
        self._whole = whole
        self._can_count = True
        self._says = f"Your limits allow at most {context_tokens} tokens (context_tokens)"

    def count_past(self, texts: Iterable[str], bound: int) -> int:
        if self._whole.can_count:
            return self._whole.count_past(texts, bound)
        return sum(len(text.split()) for text in texts)  # a word is at least one token
