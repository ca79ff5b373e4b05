"""`POST /v1/embeddings`: texts, or tokens, made into vectors."""

import asyncio
from typing import Final

from starlette.types import Send

from serve.api.entry import JSON, Entry, send_json, send_parts
from serve.api.fields import check_embedding
from serve.api.fields.embeddings import AskedVectors
from serve.core.call import Call
from serve.served import Served
from serve.stream.vectors import ASKED, embedding_answer, in_numbers

LONG_CHARS_A_TOKEN: Final = 8
"""A text with more characters than this for each token of the context hardly ever fits it."""


class EmbeddingsEndpoint(Entry[AskedVectors]):
    """The hosted API's, on models that make embeddings."""

    endpoint = "embeddings"
    family = "embeddings"
    path = "/v1/embeddings"
    task = "embed"

    def _check(self, body: object) -> AskedVectors:
        return check_embedding(body, self._limits)

    async def _admit(self, served: Served, asked: AskedVectors) -> None:
        for tokens in asked.token_prompts:
            served.guard.check_tokens(tokens, 0, "input")
        await refuse_long(served, asked.prompts, "input")

    def _body(self, served: Served, asked: AskedVectors) -> JSON:
        return asked.engine_body | ASKED

    async def _run(self, served: Served, call: Call, asked: AskedVectors, send: Send) -> None:
        answer = await self._pipeline.answer(served, call, embedding_answer)
        if asked.base64:
            await send_json(send, answer, served.headers)
            return
        parts = []
        for part in in_numbers(answer):
            parts.append(part)
            # Thousands of vectors take a while to write, and others wait for their tokens.
            await asyncio.sleep(0)
        await send_parts(send, parts, served.headers)


async def refuse_long(served: Served, prompts: tuple[list[str], ...], param: str | None) -> None:
    """Refuse texts that can hardly fit the model, without waking it for that.

    The rest are the engine's to count, which it does anyway and refuses alike: counting thousands
    of texts here too would cost as much as small models take to embed them.
    """
    bound = LONG_CHARS_A_TOKEN * served.model.config.context_tokens
    for texts in prompts:
        if len(texts[0]) > bound:
            await served.guard.check(texts, 0, param)
