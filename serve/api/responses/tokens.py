"""`POST /v1/responses/input_tokens`: the prompt's tokens, counted by the engine's template."""

from typing import Final

from starlette.types import Send

from serve.api.fields.responses import check_input_tokens
from serve.api.responses.door import JSON, Door, send_json
from serve.core.call import Call
from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.respond.turn import Turn
from serve.stream.answer import Shape

_FOR_TEMPLATE: Final = ("tools", "chat_template_kwargs")
"""What of a request decides its prompt, besides its messages and how hard the model thinks."""


class InputTokensEndpoint(Door):
    """What a request would give the model to read; nothing is generated or kept."""

    endpoint = "responses.input_tokens"
    check = staticmethod(check_input_tokens)
    counted = True

    async def _run(self, turn: Turn, send: Send) -> None:
        call = self._call(turn, await self._turns.rounds.offered(turn))
        answer = await self._turns.pipeline.answer(turn.served, call, _counted)
        await send_json(send, answer, turn.served.headers)

    def _call(self, turn: Turn, tools: JSON) -> Call:
        engine = turn.asked.engine_body | tools
        body: JSON = {name: engine[name] for name in _FOR_TEMPLATE if name in engine}
        if (effort := engine.get("reasoning_effort")) is not None:
            # As the engine's chat gives it to the template.
            settings = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
            body["chat_template_kwargs"] = settings | body.get("chat_template_kwargs", {})
        return Call(
            request_id=turn.request_id,
            endpoint=self.endpoint,
            path="/tokenize",
            principal=turn.principal,
            model_id=turn.served.id,
            body={**body, "messages": turn.messages, "model": turn.served.engine_model},
            choices=1,
            include_usage=False,
            received_s=turn.received_s,
            asked=turn.asked.model,
        )


def _counted(engine: JSON, _: Shape) -> tuple[JSON, Usage]:
    count = engine.get("count")
    if type(count) is not int:
        raise EngineError("the model's process did not count the tokens")
    return {"object": "response.input_tokens", "input_tokens": count}, Usage()
