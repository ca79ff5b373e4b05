"""HTTP/1.1 of a fake engine: vLLM's routes, statuses and error bodies."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import parse_qs

import httptools
import orjson

from serve.engines.fake import vectors
from serve.engines.fake.adapters import Refusal
from serve.engines.fake.answer import unstreamed
from serve.engines.fake.core import Core, Job
from serve.engines.fake.engine import FakeEngine, Work
from serve.engines.fake.script import Script, prompt_words, script_of
from serve.engines.fake.stream import StreamedAnswer


class FakeProtocol(asyncio.Protocol):
    """One connection with keep-alive; one request at a time."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._answer: StreamedAnswer | None = None
        self._work: Work | Job | None = None
        self._order: asyncio.Task[None] | None = None
        self._counted = False

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
        if self._work is not None:
            self._work.cancel()
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
        path, _, query = self._url.partition(b"?")
        match path:
            case b"/v1/chat/completions" | b"/v1/completions":
                self._generate(self._json())
            case b"/tokenize":
                self._tokenize(self._json())
            case b"/detokenize":
                self._reply(200, orjson.dumps(vectors.detokenized(self._json())))
            case b"/v1/embeddings" | b"/v1/score" | b"/v1/rerank":
                self._pool(path, self._json())
            case b"/health":
                self._reply(503 if self._engine.dead else 200, b"")
            case b"/metrics":
                self._reply(200, self._engine.metrics().encode(), b"text/plain; version=0.0.4")
            case b"/v1/models":
                own = {"id": self._engine.knobs.model, "object": "model", "owned_by": "vllm"}
                data = [own, *self._engine.adapters.cards()]
                self._reply(200, orjson.dumps({"object": "list", "data": data}))
            case _:
                self._ordered(path, query)

    def _json(self) -> dict[str, Any]:
        return cast(dict[str, Any], orjson.loads(b"".join(self._body)))

    # Orders

    def _ordered(self, path: bytes, query: bytes) -> None:
        asked = {name.decode(): values[0].decode() for name, values in parse_qs(query).items()}
        match path:
            case b"/sleep":
                self._obey(self._sleep(int(asked.get("level", "1")), asked.get("mode", "abort")))
            case b"/wake_up":
                self._obey(self._wake(asked.get("tags")))
            case b"/collective_rpc":
                self._obey(self._reload())
            case b"/is_sleeping":
                self._reply(200, orjson.dumps({"is_sleeping": bool(self._engine.asleep_level)}))
            case b"/v1/load_lora_adapter":
                self._obey(self._adapt(self._json(), load=True))
            case b"/v1/unload_lora_adapter":
                self._obey(self._adapt(self._json(), load=False))
            case _:
                self._reply(404, b'{"detail":"Not Found"}')

    def _obey(self, order: Coroutine[Any, Any, None]) -> None:
        self._order = asyncio.get_running_loop().create_task(order)

    async def _sleep(self, level: int, mode: str) -> None:
        await self._engine.sleep(level, mode)
        self._reply(200, orjson.dumps({"status": "sleeping", "level": level}))

    async def _wake(self, tag: str | None) -> None:
        status = "awake" if await self._engine.wake(tag) else "sleeping"
        self._reply(200, orjson.dumps({"status": status, "tags": [tag] if tag else None}))

    async def _reload(self) -> None:
        if self._json() != {"method": "reload_weights"} or not self._engine.reload_weights():
            self._reply(500, b'{"detail":"no such method, or no memory to load into"}')
            return
        self._reply(200, b'{"results":[null]}')

    async def _adapt(self, order: dict[str, Any], *, load: bool) -> None:
        await asyncio.sleep(self._engine.knobs.order_ms / 1000)
        adapters = self._engine.adapters
        try:
            done = adapters.load(order) if load else adapters.unload(order)
        except Refusal as refusal:
            self._refuse(refusal.status, refusal.kind, refusal.message)
            return
        self._reply(200, done.encode(), b"text/plain; charset=utf-8")

    # Answers

    def _tokenize(self, body: dict[str, Any]) -> None:
        shown = bool(body.get("return_token_strs"))
        context_tokens = self._engine.knobs.context_tokens
        answer = vectors.tokenized(prompt_words(body), context_tokens, shown=shown)
        self._reply(200, orjson.dumps(answer))

    def _pool(self, path: bytes, body: dict[str, Any]) -> None:
        engine = self._engine
        if path == b"/v1/embeddings":
            make, texts = vectors.embeddings, vectors.inputs_of(body)
        else:
            make = vectors.scores if path == b"/v1/score" else vectors.ranking
            texts = [text for pair in vectors.pairs_of(body) for text in pair]
        script = script_of({"model": engine.knobs.model, **body, "input": texts}, engine.knobs)
        script.words = []
        longest = max(len(text.split()) for text in texts)
        if not self._taken(script, longest):
            return

        def finish() -> None:
            self._end()
            engine.steps += 1
            try:
                answer = make(body)
            except vectors.Unfit as unfit:
                self._refuse(400, "BadRequestError", str(unfit))
            else:
                engine.prompt_tokens += answer["usage"]["prompt_tokens"]
                self._reply(200, orjson.dumps(answer))

        engine.when_free(lambda: self._begin(script, finish))

    def _generate(self, body: dict[str, Any]) -> None:
        engine = self._engine
        script = script_of(body, engine.knobs)
        answer_id = f"chatcmpl-fake{engine.served + 1}"
        if not self._taken(script, script.prompt_tokens):
            return
        if not engine.sane and not engine.asleep_level:
            script.words = ["!"] * len(script.words)
        owner = f"{script.model} {body.get('cache_salt')}"
        script.cached_tokens = engine.prefix.admit(owner, script.prompt)
        if script.stream:
            engine.when_free(lambda: self._begin_stream(script, answer_id))
        else:
            engine.when_free(lambda: self._begin(script, lambda: self._whole(script, answer_id)))

    def _taken(self, script: Script, prompt_tokens: int) -> bool:
        """Whether the request is one to begin; what is not has been answered."""
        engine = self._engine
        engine.served += 1
        if engine.dead:
            self._dead()
        elif not engine.knows(script.model):
            words = f"The model `{script.model}` does not exist."
            self._refuse(404, "NotFoundError", words)
        elif prompt_tokens > engine.knobs.context_tokens:
            words = f"the maximum context length is {engine.knobs.context_tokens} tokens"
            self._refuse(400, "BadRequestError", words)
        elif script.status != 200:
            self._refuse(script.status, "BadRequestError", f"fake status {script.status}")
        else:
            return True
        return False

    def _begin_stream(self, script: Script, answer_id: str) -> None:
        if self._count():
            self._answer = StreamedAnswer(self, self._engine, script, answer_id)
            self._answer.start()

    def _count(self) -> bool:
        """Begin to run, unless the client is gone since, while the engine slept."""
        if self._transport is None:
            return False
        self._engine.running += 1
        self._counted = True
        return True

    def _begin(self, script: Script, finish: Callable[[], None]) -> None:
        if not self._count():
            return
        if "stall" in script.faults:
            self._engine.stall()
        if "hang" in script.faults or self._engine.stalled:
            return
        if "core" in script.faults:
            self._engine.lose_core()
            self._dead()
            return
        if "die" in script.faults:
            os.kill(os.getpid(), signal.SIGKILL)
        if script.faults:
            self.close()
            return
        core = self._engine.core
        if core is not None and script.words:
            self._together(core, script, finish)
            return
        seconds = script.prefill_s + script.pace_s * len(script.words)
        if script.crunch_s:
            self._work = Work(self._engine, script.crunch_s, finish, whole=True)
        elif seconds:
            self._work = Work(self._engine, seconds, finish)
        else:
            finish()

    def _together(self, core: Core, script: Script, finish: Callable[[], None]) -> None:
        """An answer of so many tokens, in steps with others'."""
        left = len(script.words) + script.thinking

        def wrote() -> bool:
            nonlocal left
            left -= 1
            if not left:
                finish()
            return left > 0

        uncached = max(1, script.prompt_tokens - script.cached_tokens)
        self._work = core.add(uncached, script.priority, script.choices, wrote)

    def _dead(self) -> None:
        self._refuse(500, "InternalServerError", "the core is dead")

    def _whole(self, script: Script, answer_id: str) -> None:
        self._end()
        if self._engine.dead:
            self._dead()
            return
        self._engine.steps += 1
        self._engine.prompt_tokens += script.prompt_tokens
        self._engine.generated_tokens += len(script.words) * script.choices
        self._reply(200, orjson.dumps(unstreamed(script, answer_id, int(time.time()))))

    # Bytes

    def _refuse(self, status: int, kind: str, message: str) -> None:
        error = {"message": message, "type": kind, "param": None, "code": status}
        self._reply(status, orjson.dumps({"error": error}))

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
        self._answer = None
        if self._counted:
            self._counted = False
            self._engine.running -= 1
