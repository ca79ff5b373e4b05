"""`POST /v1/score` and `POST /v1/rerank`: how near texts are to each other, by their embeddings."""

from functools import partial
from typing import ClassVar, Final

from starlette.types import Send

from serve.api.embeddings import refuse_long
from serve.api.entry import JSON, AskedT, Entry, send_json
from serve.api.fields import Checked, check_rerank, check_score
from serve.api.fields.scores import Ranking
from serve.core.call import Call
from serve.served import Served
from serve.stream.scores import rerank_answer, score_answer

_CUTS: Final = ("max_tokens_per_query", "max_tokens_per_doc")


class _Scoring(Entry[AskedT]):
    """`param` is the field that holds texts which may be too long, where it has one name."""

    task = "embed"
    param: ClassVar[str | None] = None

    async def _admit(self, served: Served, asked: AskedT) -> None:
        if not any(name in self._body(served, asked) for name in _CUTS):
            await refuse_long(served, asked.prompts, self.param)

    def _body(self, served: Served, asked: AskedT) -> JSON:
        # The engine refuses to cut at its context or beyond, where there is nothing to cut:
        # what is longer than that is refused for its length.
        context = served.model.config.context_tokens
        body = asked.engine_body
        return {
            name: value for name, value in body.items() if name not in _CUTS or 0 < value < context
        }


class ScoreEndpoint(_Scoring[Checked]):
    """A score for each pair of texts."""

    endpoint = "score"
    family = "score"
    path = "/v1/score"

    def _check(self, body: object) -> Checked:
        return check_score(body, self._limits)

    async def _run(self, served: Served, call: Call, asked: Checked, send: Send) -> None:
        shaped = partial(score_answer, answer_id=_id("score", call))
        await send_json(send, await self._pipeline.answer(served, call, shaped), served.headers)


class RerankEndpoint(_Scoring[Ranking]):
    """Documents, ordered by how near they are to a query."""

    endpoint = "rerank"
    family = "rerank"
    path = "/v1/rerank"
    param = "documents"

    def _check(self, body: object) -> Ranking:
        return check_rerank(body, self._limits)

    async def _run(self, served: Served, call: Call, asked: Ranking, send: Send) -> None:
        shaped = partial(
            rerank_answer,
            answer_id=_id("rerank", call),
            documents=asked.documents,
            shown=asked.shown,
        )
        await send_json(send, await self._pipeline.answer(served, call, shaped), served.headers)


def _id(kind: str, call: Call) -> str:
    return f"{kind}-{call.request_id.removeprefix('req_')}"
