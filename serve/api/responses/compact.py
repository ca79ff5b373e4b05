"""`POST /v1/responses/compact`: a conversation as its user's messages and a summary of the rest.

The model that holds the conversation writes the summary; the client carries it, sealed, into its
next request.
"""

import time
from functools import partial
from typing import Final

from starlette.types import Send

from serve.api.fields.responses import check_compact
from serve.api.responses.door import JSON, Door, send_json
from serve.core.call import Call
from serve.core.errors import EngineError
from serve.core.ids import new_id
from serve.core.usage import Usage
from serve.respond.sealed import seal
from serve.respond.turn import Turn
from serve.stream.answer import Shape, chat_answer

SUMMARY_PART: Final = 4
"""A summary takes at most one part in so many of the model's context."""
ORDER: Final = (
    "Summarize this conversation for an assistant that will go on with it and cannot read it: "
    "what was asked, what was decided and found out, exact names, numbers and file paths that "
    "matter, and what remains to be done. Write the summary only."
)


class CompactEndpoint(Door):
    """What a conversation comes to in fewer tokens; nothing is kept."""

    endpoint = "responses.compact"
    check = staticmethod(check_compact)

    async def _run(self, turn: Turn, send: Send) -> None:
        answerer = partial(_compacted, turn)
        answer = await self._turns.pipeline.answer(turn.served, self._call(turn), answerer)
        await send_json(send, answer, turn.served.headers)

    def _call(self, turn: Turn) -> Call:
        summary_tokens = turn.served.model.config.context_tokens // SUMMARY_PART
        body: JSON = {
            "model": turn.served.engine_model,
            "messages": [*turn.messages, {"role": "user", "content": ORDER}],
            "max_completion_tokens": summary_tokens,
        }
        return Call(
            request_id=turn.request_id,
            endpoint=self.endpoint,
            path="/v1/chat/completions",
            principal=turn.principal,
            model_id=turn.served.id,
            body=body,
            choices=1,
            include_usage=False,
            received_s=turn.received_s,
            max_output_tokens=summary_tokens,
            asked=turn.asked.model,
            tier=turn.answer.tier,
        )


def _compacted(turn: Turn, engine: JSON, shape: Shape) -> tuple[JSON, Usage]:
    """The `response.compaction` object; raises EngineError where there is no summary."""
    answer, usage = chat_answer(engine, shape)
    summary = answer["choices"][0]["message"]["content"]
    if not summary:
        raise EngineError("the model wrote no summary")
    everything = (*turn.history, *turn.items)
    said = [item for item in everything if item["type"] == "message" and item["role"] == "user"]
    item = {"id": new_id("cmp"), "type": "compaction", "encrypted_content": seal(summary)}
    compaction = {
        "id": f"resp_{turn.request_id.removeprefix('req_')}",
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [*said, item],
        "usage": usage.responses(),
    }
    return compaction, usage
