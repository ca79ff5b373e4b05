"""Runs a request again whose text was kept, and says whether the answer is the same, or why not."""

import os
import time
from typing import Any, Final

from serve.audit.receipt import answer_of, asked_of, digest
from serve.core.call import Call, Principal, Timeline
from serve.core.errors import NotFound
from serve.core.said import Said
from serve.core.text import Text
from serve.core.usage import Usage
from serve.pipeline import Pipeline
from serve.respond.run import Silent
from serve.served import Served
from serve.state.texts import RequestTexts
from serve.stream.answer import Shape
from serve.stream.chunks import ChatChunks, ChunkStream, CompletionChunks

JSON = dict[str, Any]

OPERATOR: Final = Principal("operator")
PARTS: Final = ("weights", "adapter", "config", "engine")
CHAT: Final = "/v1/chat/completions"
GENERATING: Final = frozenset({CHAT, "/v1/completions"})
ROUNDING: Final = (
    "nothing that is recorded differs: rounding depends on what else runs in the same batch, and "
    "on what is cached of the prompt"
)
NEAR_CHARS: Final = 40
"""What is shown of two answers where they begin to differ."""


class Replays:
    """Asks the engines of `pipeline` again, as the operator's own requests: accounted to the key
    `operator` of the default tenant, with a receipt of their own."""

    def __init__(self, pipeline: Pipeline, texts: RequestTexts) -> None:
        self._pipeline = pipeline
        self._texts = texts

    async def replay(self, request_id: str) -> list[JSON]:
        """What came of each engine call of a request. Raises NotFound where no text is kept, and
        what the pipeline does; a model that is not served any more is a reason, not an error."""
        texts = await self._texts.of(request_id)
        if not texts:
            raise NotFound(
                f"The text of {request_id[:80]!r} is not kept here.", code="text_not_kept"
            )
        return [await self._again(one) for one in texts]

    async def _again(self, text: Text) -> JSON:
        receipt = dict(text.receipt)
        told: JSON = {
            "request_id": text.request_id,
            "model": receipt["model"],
            "kept": {
                "prompt_sha256": digest(asked_of(text.asked["body"])[0]),
                "answer_sha256": None if text.answer is None else digest(text.answer),
            },
        }
        try:
            served = self._pipeline.resolve(receipt["model"], OPERATOR)
        except NotFound:
            why = [f"the model {receipt['model']} is not configured"]
            return told | {"ran": False, "identical": False, "why": why}
        call = _call(served, text)
        answer = await self._answer(served, call)
        identical = answer == text.answer
        told |= {"ran": True, "identical": identical, "replayed_as": call.request_id}
        told["why"] = _differences(served, receipt)
        if not identical:
            told["why"] += _reasons(receipt, text.asked["path"])
            told["why"] = told["why"] or [ROUNDING]
            told["first_difference"] = _first_difference(text.answer, answer)
        return told

    async def _answer(self, served: Served, call: Call) -> Any:
        timeline = Timeline(call.model_id, call.received_s, call.received_s)
        if not call.body.get("stream"):

            def whole(engine: JSON, shape: Shape) -> tuple[JSON, Usage]:
                del shape
                timeline.said = engine
                return engine, Usage.of_engine(engine.get("usage") or {})

            await self._pipeline.answer(served, call, whole)
            return answer_of(timeline)

        made: list[ChunkStream] = []

        def chunker(shape: Shape) -> ChunkStream:
            made.append(ChatChunks(shape) if call.path == CHAT else CompletionChunks(shape))
            return made[-1]

        await self._pipeline.stream(served, call, Silent(), chunker)
        said: Said = made[-1].said
        timeline.said = said
        return answer_of(timeline)


def _call(served: Served, text: Text) -> Call:
    asked = text.asked
    return Call(
        request_id=f"req_{os.urandom(16).hex()}",
        endpoint=asked["endpoint"],
        path=asked["path"],
        principal=OPERATOR,
        model_id=served.id,
        body={**asked["body"], "model": served.engine_model},
        choices=asked["choices"],
        include_usage=True,
        received_s=time.monotonic(),
        max_output_tokens=asked["max_output_tokens"],
        asked=served.id,
    )


def _differences(served: Served, receipt: JSON) -> list[str]:
    """What is not as it was."""
    now = served.provenance
    return [
        f"other {name}: {receipt[name] or 'none'} then, {getattr(now, name) or 'none'} now"
        for name in PARTS
        if receipt[name] != getattr(now, name)
    ]


def _reasons(receipt: JSON, path: str) -> list[str]:
    """Why an answer may differ where it comes from the same."""
    why = []
    if receipt["outcome"] != "ok":
        why.append(f"the first answer was not whole: it ended as {receipt['outcome']}")
    sampling = receipt["sampling"]
    if path in GENERATING and receipt["seed"] is None and sampling.get("temperature") != 0:
        why.append("sampled without a seed")
    return why


def _first_difference(before: Any, after: Any) -> JSON:
    """Where two answers begin to differ."""
    if not (isinstance(before, list) and isinstance(after, list)):
        return {"before": before is not None, "after": after is not None}
    for one, other in zip(before, after, strict=False):
        if one == other:
            continue
        for name in ("reasoning", "content"):
            old, new = str(one.get(name, "")), str(other.get(name, ""))
            if old != new:
                at = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), -1)
                at = min(len(old), len(new)) if at < 0 else at
                near = slice(at, at + NEAR_CHARS)
                return {"choice": one.get("index"), "field": name, "character": at,
                        "before": old[near], "after": new[near]}  # fmt: skip
        names = [name for name in one if one[name] != other.get(name)]
        return {"choice": one.get("index"), "field": ", ".join(names)}
    return {"choices_before": len(before), "choices_after": len(after)}
