"""`POST /tokenize` and `POST /detokenize`: a model's own tokenizer, and its chat template.

Both are asked of the engine, which has the tokenizer that its answers are made with; a second one
here could differ in what it adds.
"""

from starlette.types import Send

from serve.api.entry import Entry, send_json
from serve.api.fields import Checked, check_detokenize, check_tokenize
from serve.core.call import Call
from serve.served import Served
from serve.stream.tokens import text_answer, tokens_answer


class TokenizeEndpoint(Entry[Checked]):
    """The tokens of a prompt, or of a chat."""

    endpoint = "tokenize"
    family = "tokens"
    path = "/tokenize"

    def _check(self, body: object) -> Checked:
        return check_tokenize(body, self._limits)

    async def _run(self, served: Served, call: Call, asked: Checked, send: Send) -> None:
        answer = await self._pipeline.answer(served, call, tokens_answer)
        await send_json(send, answer, served.headers)


class DetokenizeEndpoint(Entry[Checked]):
    """The text of tokens."""

    endpoint = "detokenize"
    family = "tokens"
    path = "/detokenize"

    def _check(self, body: object) -> Checked:
        return check_detokenize(body, self._limits)

    async def _run(self, served: Served, call: Call, asked: Checked, send: Send) -> None:
        answer = await self._pipeline.answer(served, call, text_answer)
        await send_json(send, answer, served.headers)
