"""A model process without a model: vLLM's wire on a socket, with knobs for time and faults.

It ships with the product because a site can try its gateway, keys, dashboards and load tests
with it before the GPUs arrive, and because a thousand tests need an engine that answers in a
millisecond and fails on demand. What it generates is `w0 w1 w2 …`, one token a word; a prompt's
tokens are its words. A prompt may carry directives, each a word of its own:

    fake:tokens=N    generate N tokens (still bounded by max_tokens)
    fake:die@N       exit with SIGKILL before token N        fake:hang@N   stop sending there
    fake:error@N     an error frame there                    fake:abort@N  finish with `abort`
    fake:drop@N      close the connection there              fake:status=N answer with status N
    fake:garbage@N   send what is no JSON there
    fake:think=N     N reasoning tokens first                fake:say=TEXT answer TEXT instead
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import orjson
import uvloop

from serve.engines.mortality import die_with_parent

DIRECTIVE = re.compile(r"fake:([a-z]+)(?:[=@](\S+))?")


@dataclass(frozen=True, slots=True)
class Knobs:
    """Pace and size of every answer; a prompt's directives win over them."""

    model: str = "fake"
    tokens: int = 16
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    context_tokens: int = 8192


@dataclass(slots=True)
class Script:
    """What one answer will do, decided when the request arrives."""

    chat: bool
    stream: bool
    model: str
    include_usage: bool
    choices: int
    words: list[str]
    finish: str
    thinking: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    status: int = 200
    prompt_tokens: int = 0
    tool: str | None = None
    logprobs: bool = False


def _prompt_text(body: dict[str, Any]) -> str:
    if "messages" not in body:
        prompt = body.get("prompt", body.get("input", ""))
        return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
    texts = []
    for message in body["messages"]:
        content = message.get("content") or ""
        if isinstance(content, list):
            content = " ".join(part.get("text", "") for part in content)
        texts.append(content)
    return " ".join(texts)


def _tool_name(body: dict[str, Any]) -> str | None:
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    if choice == "required" and body.get("tools"):
        return str(body["tools"][0]["function"]["name"])
    return None


def script_of(body: dict[str, Any], knobs: Knobs) -> Script:
    """Decide an answer from a request body and the knobs."""
    chat = "messages" in body
    text = _prompt_text(body)
    directives = dict(DIRECTIVE.findall(text))
    bound = body.get("max_completion_tokens") or body.get("max_tokens")
    if "say" in directives:
        words = directives["say"].replace("_", " ").split(" ")
    else:
        words = [f"w{i}" for i in range(int(directives.get("tokens") or knobs.tokens))]
    truncated = bound is not None and len(words) > bound
    return Script(
        chat=chat,
        stream=bool(body.get("stream")),
        model=body.get("model", knobs.model),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        choices=body.get("n") or 1,
        words=words[:bound] if truncated else words,
        finish="length" if truncated else "stop",
        thinking=int(directives.get("think") or 0),
        faults={
            name: int(directives[name] or 0)
            for name in ("die", "hang", "error", "abort", "drop", "garbage")
            if name in directives
        },
        status=int(directives.get("status") or 200),
        prompt_tokens=max(1, len(text.split())),
        tool=_tool_name(body) if chat else None,
        logprobs=bool(body.get("logprobs")),
    )


def usage_of(script: Script) -> dict[str, Any]:
    out = (len(script.words) + script.thinking) * script.choices
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": out,
        "total_tokens": script.prompt_tokens + out,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def unstreamed(script: Script, answer_id: str, created: int) -> dict[str, Any]:
    """The body of a whole answer, as vLLM words it."""
    text = " ".join(script.words)
    choices: list[dict[str, Any]] = []
    for index in range(script.choices):
        choice: dict[str, Any] = {
            "index": index,
            "logprobs": None,
            "finish_reason": script.finish,
            "stop_reason": None,
            "token_ids": None,
        }
        if not script.chat:
            choice |= {"text": text, "prompt_logprobs": None}
        elif script.tool:
            choice["message"] = {
                "role": "assistant",
                "content": None,
                "reasoning": None,
                "refusal": None,
                "tool_calls": [
                    {
                        "id": f"call-{answer_id}-{index}",
                        "type": "function",
                        "function": {"name": script.tool, "arguments": "{}"},
                    }
                ],
            }
            choice["finish_reason"] = "tool_calls"
        else:
            thoughts = " ".join(f"t{i}" for i in range(script.thinking)) or None
            choice["message"] = {
                "role": "assistant",
                "content": text,
                "reasoning": thoughts,
                "refusal": None,
            }
        if script.logprobs and script.chat:
            choice["logprobs"] = {"content": [_logprob(word) for word in script.words]}
        choices.append(choice)
    return {
        "id": answer_id,
        "created": created,
        "model": script.model,
        "choices": choices,
        "object": "chat.completion" if script.chat else "text_completion",
        "usage": usage_of(script),
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }


def _logprob(word: str) -> dict[str, Any]:
    return {"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}


class StreamedAnswer:
    """Sends one scripted answer token by token, each in a write of its own."""

    def __init__(self, protocol: "FakeProtocol", script: Script, answer_id: str) -> None:
        self._protocol = protocol
        self._script = script
        self._knobs = protocol.knobs
        head = {
            "id": answer_id,
            "object": "chat.completion.chunk" if script.chat else "text_completion",
            "created": int(time.time()),
            "model": script.model,
        }
        self._head = orjson.dumps(head)[:-1]
        self._next = 0
        self._total = script.thinking + (1 if script.tool else len(script.words))
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def start(self) -> None:
        self._protocol.write_head(200, b"text/event-stream", chunked=True)
        if self._knobs.ttft_ms:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._knobs.ttft_ms / 1000, self._begin)
        else:
            self._begin()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
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
        if self._fault(self._next):
            return
        if self._next >= self._total:
            self._finish()
            return
        position = self._next
        self._next += 1
        last = self._next == self._total
        for index in range(self._script.choices):
            choice = self._choice(position)
            choice["index"] = index
            choice["finish_reason"] = self._finish_reason() if last else None
            self._event([choice])
        loop = asyncio.get_running_loop()
        if self._knobs.tpot_ms:
            self._timer = loop.call_later(self._knobs.tpot_ms / 1000, self._step)
        else:
            self._timer = loop.call_soon(self._step)

    def _finish_reason(self) -> str:
        return "tool_calls" if self._script.tool else self._script.finish

    def _choice(self, position: int) -> dict[str, Any]:
        script = self._script
        if position < script.thinking:
            return {"delta": {"reasoning": f"t{position} "}, "logprobs": None}
        if script.tool:
            call = {
                "index": 0,
                "id": "call-0",
                "type": "function",
                "function": {"name": script.tool, "arguments": "{}"},
            }
            return {"delta": {"tool_calls": [call]}, "logprobs": None}
        place = position - script.thinking
        word = script.words[place] + ("" if place + 1 == len(script.words) else " ")
        if not script.chat:
            return {"text": word, "logprobs": None}
        logprobs = {"content": [_logprob(word)]} if script.logprobs else None
        return {"delta": {"content": word}, "logprobs": logprobs}

    def _fault(self, position: int) -> bool:
        for name, at in self._script.faults.items():
            if at != position:
                continue
            if name == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif name == "drop":
                self._protocol.close()
            elif name == "error":
                error = {"message": "fake failure", "type": "InternalServerError", "code": 500}
                self._raw(orjson.dumps({"error": error}))
                self._raw(b"[DONE]")
                self._protocol.end_chunked()
            elif name == "garbage":
                self._raw(b'{"choices":[{}')
                self._protocol.end_chunked()
            elif name == "abort":
                self._event([{"index": 0, "delta": {}, "finish_reason": "abort"}])
                self._raw(b"[DONE]")
                self._protocol.end_chunked()
            return True
        return False

    def _finish(self) -> None:
        if self._script.include_usage:
            self._event([], usage=usage_of(self._script))
        self._raw(b"[DONE]")
        self._protocol.end_chunked()

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> None:
        tail = b',"choices":' + orjson.dumps(choices)
        if usage is not None:
            tail += b',"usage":' + orjson.dumps(usage)
        self._raw(self._head + tail + b"}")

    def _raw(self, data: bytes) -> None:
        frame = b"data: " + data + b"\n\n"
        self._protocol.write(b"%x\r\n%b\r\n" % (len(frame), frame))


class FakeProtocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; one request at a time."""

    running = 0
    served = 0

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._answer: StreamedAnswer | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._answer is not None:
            self._answer.cancel()
            self._end()

    def on_message_begin(self) -> None:
        self._body = []
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.split(b"?")[0]
        if path == b"/health":
            self._reply(200, b"")
        elif path == b"/v1/models":
            self._reply(200, orjson.dumps({"object": "list", "data": [{"id": self.knobs.model}]}))
        elif path == b"/metrics":
            text = (
                "# TYPE vllm:num_requests_running gauge\n"
                f'vllm:num_requests_running{{model_name="{self.knobs.model}"}} '
                f"{FakeProtocol.running}\n"
                "# TYPE fake_requests_served_total counter\n"
                f"fake_requests_served_total {FakeProtocol.served}\n"
            )
            self._reply(200, text.encode(), b"text/plain; version=0.0.4")
        elif path in (b"/v1/chat/completions", b"/v1/completions"):
            self._generate(orjson.loads(b"".join(self._body)))
        elif path == b"/v1/embeddings":
            self._embed(orjson.loads(b"".join(self._body)))
        else:
            self._reply(404, b'{"detail":"Not Found"}')

    def _embed(self, body: dict[str, Any]) -> None:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"index": i, "object": "embedding", "embedding": [float(len(str(text))), 1.0]}
            for i, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        self._reply(
            200,
            orjson.dumps(
                {"object": "list", "data": data, "model": body.get("model"), "usage": usage}
            ),
        )

    def _generate(self, body: dict[str, Any]) -> None:
        script = script_of(body, self.knobs)
        FakeProtocol.served += 1
        answer_id = f"chatcmpl-fake{FakeProtocol.served}"
        if script.prompt_tokens > self.knobs.context_tokens:
            script.status = 400
        if script.status != 200:
            message = f"fake status {script.status}"
            if script.prompt_tokens > self.knobs.context_tokens:
                message = f"the maximum context length is {self.knobs.context_tokens} tokens"
            error = {
                "message": message,
                "type": "BadRequestError",
                "param": None,
                "code": script.status,
            }
            self._reply(script.status, orjson.dumps({"error": error}))
            return
        FakeProtocol.running += 1
        self._answer = StreamedAnswer(self, script, answer_id)
        if script.stream:
            self._answer.start()
            return
        seconds = (self.knobs.ttft_ms + self.knobs.tpot_ms * len(script.words)) / 1000
        if "hang" in script.faults:
            return
        if "die" in script.faults:
            os.kill(os.getpid(), signal.SIGKILL)
        if script.faults:
            self.close()
            return
        if seconds:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._whole, script, answer_id)
        else:
            self._whole(script, answer_id)

    def _whole(self, script: Script, answer_id: str) -> None:
        self._end()
        self._reply(200, orjson.dumps(unstreamed(script, answer_id, int(time.time()))))

    def _reply(self, status: int, body: bytes, kind: bytes = b"application/json") -> None:
        self.write(
            b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (status, kind, len(body), body)
        )

    def write_head(self, status: int, kind: bytes, *, chunked: bool) -> None:
        coding = b"transfer-encoding: chunked\r\n" if chunked else b""
        self.write(b"HTTP/1.1 %d X\r\ncontent-type: %b\r\n%b\r\n" % (status, kind, coding))

    def end_chunked(self) -> None:
        self._end()
        self.write(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        if self._answer is not None:
            self._answer = None
            FakeProtocol.running -= 1


async def run(knobs: Knobs, *, uds: str | None, port: int | None, start_delay_s: float) -> None:
    """Serve until SIGTERM."""
    await asyncio.sleep(start_delay_s)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if uds is not None:
        server = await loop.create_unix_server(lambda: FakeProtocol(knobs), uds)
    else:
        server = await loop.create_server(lambda: FakeProtocol(knobs), "127.0.0.1", port)
    await stop.wait()
    server.close()


def main() -> None:
    default = Knobs()
    parser = argparse.ArgumentParser(description="an engine without a model")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--uds")
    where.add_argument("--port", type=int)
    parser.add_argument("--model", default=default.model)
    parser.add_argument("--tokens", type=int, default=default.tokens)
    parser.add_argument("--ttft-ms", type=float, default=default.ttft_ms)
    parser.add_argument("--tpot-ms", type=float, default=default.tpot_ms)
    parser.add_argument("--context-tokens", type=int, default=default.context_tokens)
    parser.add_argument("--start-delay-s", type=float, default=0.0)
    parser.add_argument("--outlive-parent", action="store_true", help="for use without a gateway")
    args = parser.parse_args()
    if not args.outlive_parent:
        die_with_parent()
    knobs = Knobs(args.model, args.tokens, args.ttft_ms, args.tpot_ms, args.context_tokens)
    work = run(knobs, uds=args.uds, port=args.port, start_delay_s=args.start_delay_s)
    uvloop.run(work)


if __name__ == "__main__":
    main()
