"""Streamed answers of a fake engine: one event a token, each in a write of its own."""

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import orjson

from serve.engines.fake.answer import logprob, usage_of
from serve.engines.fake.core import Job
from serve.engines.fake.engine import FakeEngine, Work
from serve.engines.fake.script import Script

if TYPE_CHECKING:
    from serve.engines.fake.wire import FakeProtocol


class StreamedAnswer:
    """Sends one scripted answer token by token."""

    def __init__(
        self, protocol: "FakeProtocol", engine: FakeEngine, script: Script, answer_id: str
    ) -> None:
        self._protocol = protocol
        self._engine = engine
        self._script = script
        self._pause_s = script.pace_s
        head = {
            "id": answer_id,
            "object": "chat.completion.chunk" if script.chat else "text_completion",
            "created": int(time.time()),
            "model": script.model,
        }
        self._head = orjson.dumps(head)[:-1]
        self._next = 0
        self._total = script.thinking + len(script.tools or script.words)
        self._timer: asyncio.TimerHandle | asyncio.Handle | Work | Job | None = None

    def start(self) -> None:
        self._protocol.write_head(200, b"text/event-stream", chunked=True)
        if self._script.crunch_s:
            self._timer = Work(self._engine, self._script.crunch_s, self._prefill, whole=True)
        else:
            self._prefill()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _prefill(self) -> None:
        script = self._script
        if self._engine.core is not None:
            uncached = max(1, script.prompt_tokens - script.cached_tokens)
            self._timer = self._engine.core.add(
                uncached, script.priority, script.choices, self._wrote
            )
        elif script.prefill_s:
            self._timer = Work(self._engine, script.prefill_s, self._begin)
        else:
            self._begin()

    def _wrote(self) -> bool:
        """The core has computed one more token; whether more will come."""
        if self._next:
            self._step()
        else:
            self._begin()
        if self._next < self._total:
            return True
        self._step()
        return False

    def _begin(self) -> None:
        if self._engine.stalled:
            return
        self._engine.prompt_tokens += self._script.prompt_tokens
        if self._script.chat:
            for index in range(self._script.choices):
                self._event(
                    [
                        {
                            "index": index,
                            "delta": {"role": "assistant", "content": ""},
                            "logprobs": None,
                            "finish_reason": None,
                        }
                    ]
                )
        self._step()

    def _step(self) -> None:
        if self._fault(self._next) or self._engine.stalled:
            return
        if self._engine.dead:
            self._fail("the core is dead")
            return
        if self._engine.crunching:
            self._timer = asyncio.get_running_loop().call_later(0.01, self._step)
            return
        if self._next >= self._total:
            self._finish()
            return
        position = self._next
        self._next += 1
        self._engine.steps += 1
        self._engine.generated_tokens += self._script.choices
        last = self._next == self._total
        for index in range(self._script.choices):
            choice = self._choice(position)
            choice["index"] = index
            choice["finish_reason"] = self._finish_reason() if last else None
            choice["stop_reason"] = self._script.stop_reason if last else None
            self._event([choice])
        if self._engine.core is not None:
            return
        loop = asyncio.get_running_loop()
        if self._pause_s:
            self._timer = loop.call_later(self._pause_s, self._step)
        else:
            self._timer = loop.call_soon(self._step)

    def _finish_reason(self) -> str:
        return "tool_calls" if self._script.tools else self._script.finish

    def _choice(self, position: int) -> dict[str, Any]:
        script = self._script
        if position < script.thinking:
            gap = "" if position + 1 == script.thinking else " "
            return {"delta": {"reasoning": f"t{position}{gap}"}, "logprobs": None}
        place = position - script.thinking
        if script.tools:
            call = {
                "index": place,
                "id": f"call-{place}",
                "type": "function",
                "function": {"name": script.tools[place], "arguments": script.arguments},
            }
            return {"delta": {"tool_calls": [call]}, "logprobs": None}
        word = script.words[place] + ("" if place + 1 == len(script.words) else " ")
        if not script.chat:
            return {"text": word, "logprobs": None}
        logprobs = {"content": [logprob(word)]} if script.logprobs else None
        return {"delta": {"content": word}, "logprobs": logprobs}

    def _fault(self, position: int) -> bool:
        for name, at in self._script.faults.items():
            if at != position:
                continue
            if name == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif name == "stall":
                self._engine.stall()
            elif name == "drop":
                self._protocol.close()
            elif name == "error":
                self._fail("fake failure")
            elif name == "core":
                self._engine.lose_core()
                self._fail("the core is dead")
            elif name == "garbage":
                self._raw(b'{"choices":[{}')
                self._protocol.end_chunked()
            elif name == "abort":
                self._event([{"index": 0, "delta": {}, "finish_reason": "abort"}])
                self._raw(b"[DONE]")
                self._protocol.end_chunked()
            return True
        return False

    def _fail(self, message: str) -> None:
        error = {"message": message, "type": "InternalServerError", "code": 500}
        self._raw(orjson.dumps({"error": error}))
        self._raw(b"[DONE]")
        self._protocol.end_chunked()

    def _finish(self) -> None:
        if self._script.include_usage:
            self._event([], usage=usage_of(self._script))
        self._raw(b"[DONE]")
        self._protocol.end_chunked()

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> None:
        tail = b',"choices":' + orjson.dumps(choices)
        if usage is None and self._script.continuous_usage:
            usage = self._so_far()
        if usage is not None:
            tail += b',"usage":' + orjson.dumps(usage)
        self._raw(self._head + tail + b"}")

    def _so_far(self) -> dict[str, Any]:
        """Counts beside each event, which lack the details until the end."""
        prompt, out = self._script.prompt_tokens, self._next * self._script.choices
        return {"prompt_tokens": prompt, "completion_tokens": out, "total_tokens": prompt + out}

    def _raw(self, data: bytes) -> None:
        frame = b"data: " + data + b"\n\n"
        self._protocol.write(b"%x\r\n%b\r\n" % (len(frame), frame))
