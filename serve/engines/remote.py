"""The backend of one server on another node: asked and watched, never started or stopped.

Ready means the same as of an engine here: it has answered a real one-token request. From then on
its list of models is read now and then, which costs it nothing; once that fails, or a request is
lost on it, it has to answer a real request again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from serve.core.call import Call
from serve.core.errors import EngineError, EngineUnavailable, SettingsError
from serve.engines.client import EngineClient, EngineSilent, Origin, ProbeRefused
from serve.engines.connection import Connection
from serve.engines.jobs import Jobs
from serve.engines.origin import key_of, origin_of, tls_of
from serve.engines.states import RETRY_FIRST_GUESS_S, RETRY_MIN_S, Policy, State, backoff_s
from serve.engines.status import RETRY_FAILED_S, EngineStatus
from serve.settings.remote import Remote

log = logging.getLogger("inhouse.engine")

VLLM: Final = "vllm"
"""Whom vLLM's list says that its models belong to."""
REFUSALS: Final = frozenset({401, 403, 404})
"""Of a one-token request: neither the key nor the model's name gets better by itself."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The bounds of watching a server."""

    check_every_s: float = 5.0
    check_timeout_s: float = 5.0
    probe_timeout_s: float = 60.0
    """What one token may take of a server that has to load or wake the model for it."""
    retry_max_s: float = 30.0
    silence_max_s: float = 30.0
    """A server that accepts requests and answers none for so long has lost those it was given."""


class Asked:
    """A claim on a server elsewhere."""

    __slots__ = ("_engine", "client")

    def __init__(self, engine: "RemoteEngine", client: EngineClient) -> None:
        self._engine = engine
        self.client = client

    def release(self) -> None:
        self._engine.leave()


class RemoteClient(EngineClient):
    """Requests in which the model has the name that the server there gives it.

    `vllm`: it is vLLM; from others, what only vLLM knows is kept back.
    """

    def __init__(self, origin: Origin, model: str, *, vllm: bool) -> None:
        super().__init__(origin)
        self._model = model
        self._vllm = vllm

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Connection:
        """As `EngineClient.post`."""
        said = orjson.loads(body) | {"model": self._model}
        if not self._vllm:
            said.pop("cache_salt", None)
            if "stream_options" in said:
                said["stream_options"].pop("continuous_usage_stats", None)
        return await super().post(path, orjson.dumps(said), headers)


class RemoteEngine:
    """One model on one server elsewhere.

    Raises SettingsError at once where the key or the certificates cannot be read. `start` begins
    to watch, `stop` ends it.
    """

    def __init__(
        self,
        model_id: str,
        remote: Remote,
        task: str,
        *,
        name: str,
        waiting_max: int,
        pace: Pace = Pace(),
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model_id = model_id
        self._remote = remote
        self._task = task
        self._name = remote.model or name
        self.waiting_max = waiting_max
        self.in_hand = 0
        self._pace = pace
        self._policy = Policy(pace.probe_timeout_s, backoff_max_s=pace.retry_max_s)
        self._clock_s = clock_s
        self._tls = tls_of(remote)
        self._key = key_of(remote)
        self._vllm = False
        self._client = self._made()
        self._state = State.STOPPED
        self._since_s = clock_s()
        self._losses = 0
        self._failures = 0
        self._silent_since_s: float | None = None
        self._again_s: float | None = None
        self._error: str | None = None
        self._subscribers: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._doubted = asyncio.Event()
        self._idle = asyncio.Event()
        self._waiting = 0
        self._jobs = Jobs(self._failed)

    # The backend

    @property
    def status(self) -> EngineStatus:
        left_s = None if self._again_s is None else max(0.0, self._again_s - self._clock_s())
        guess_s = None if self._state is State.READY else max(left_s or 0.0, RETRY_FIRST_GUESS_S)
        return EngineStatus(
            model_id=self._model_id,
            state=self._state,
            pid=None,
            generation=self._losses,
            since_s=self._since_s,
            restarts=self._losses,
            last_error=self._error,
            next_start_in_s=left_s,
            ready_in_s=guess_s,
        )

    @property
    def client(self) -> EngineClient | None:
        return self._client if self._state is State.READY else None

    @property
    def open(self) -> bool:
        """Requests may begin; it is never drained from here."""
        return True

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._subscribers.append(callback)

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Asked:
        """See `serve.engines.backend.Backend.claim`."""
        if avoid is self._client and self._state is State.READY:
            await self._doubt()
        if self._state is not State.READY:
            await self._wait(timeout_s)
        self.in_hand += 1
        return Asked(self, self._client)

    def leave(self) -> None:
        """One request has ended."""
        self.in_hand -= 1
        if not self.in_hand:
            self._idle.set()

    async def _doubt(self) -> None:
        """Have it looked at now, and wait for what is found."""
        self._doubted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.check_timeout_s + 1):
                while self._doubted.is_set():
                    await self._changed.wait()

    async def _wait(self, timeout_s: float) -> None:
        if self._waiting >= self.waiting_max:
            raise self._unavailable(f"is not reachable, and {self._waiting} requests wait for it")
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while self._state is not State.READY:
                    if self._state is State.STOPPED:
                        raise self._unavailable("is not asked for any more")
                    if self._state is State.FAILED:
                        raise self._unavailable("is refused by the server that has it")
                    await self._changed.wait()
        except TimeoutError:
            raise self._unavailable("is not reachable") from None
        finally:
            self._waiting -= 1

    def _unavailable(self, why: str) -> EngineUnavailable:
        retry_s = RETRY_FAILED_S if self._state is State.FAILED else self.status.ready_in_s
        return EngineUnavailable(
            f"{self._model_id} {why}; the operator of this server can see more in its log",
            retry_after_s=max(RETRY_MIN_S, retry_s or 0.0),
        )

    # Watching

    def start(self) -> None:
        """Begin to ask it; returns at once."""
        if self._state is State.STOPPED:
            self._failures, self._error = 0, None
            self._client = self._made()
            self._become(State.STARTING)
            self._jobs.start(self._watch())

    async def stop(self, drain_timeout_s: float = 0.0) -> None:
        """Ask it no more; what runs there for us has this time to end."""
        self._become(State.STOPPED)
        await self._jobs.cancel()
        self._idle.clear()
        if self.in_hand and drain_timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_timeout_s):
                    await self._idle.wait()
        await self._client.close()

    async def proven(self) -> None:
        """Return once it has answered a real request; raises EngineError at its first failure."""
        while self._state is not State.READY:
            if self._failures:
                raise EngineError(
                    f"{self._model_id} is not answered at {self._remote.url}: {self._error}"
                )
            await self._changed.wait()

    async def _watch(self) -> None:
        while True:
            if await self._answers():
                self._become(State.READY)
                await self._lasts()
                self._losses += 1
                self._become(State.STARTING)
            else:
                wait_s = backoff_s(self._policy, self._failures)
                self._again_s = self._clock_s() + wait_s
                await asyncio.sleep(wait_s)
                self._again_s = None

    async def _answers(self) -> bool:
        """Whether it answers a real request; with the key as it is in its file now."""
        try:
            await self._read_key()
            await self._client.probe_ready(self._name, self._task, self._pace.probe_timeout_s)
            await self._recognise()
        except (EngineError, SettingsError) as error:
            self._failures += 1
            self._error = self._without_key(error.message)
            await self._weigh(silent=isinstance(error, EngineSilent))
            if self._failures == 1:
                self._log("a server elsewhere does not answer")
            refused = isinstance(error, ProbeRefused) and error.status in REFUSALS
            self._become(State.FAILED if refused else State.STARTING)
            return False
        self._failures, self._error, self._silent_since_s = 0, None, None
        return True

    async def _recognise(self) -> None:
        """See whether it is vLLM, which takes a salt and more; others refuse what they do not know.

        Raises EngineError where it cannot be asked at all.
        """
        try:
            status, data = await self._client.get("/v1/models", self._pace.check_timeout_s)
            cards = orjson.loads(data)["data"] if status == 200 else []
            vllm = any(one.get("owned_by") == VLLM for one in cards)
        except TimeoutError:
            raise EngineSilent("it does not tell its models") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            vllm = False
        if vllm != self._vllm:
            self._vllm = vllm
            before, self._client = self._client, self._made()
            before.retire()

    async def _weigh(self, *, silent: bool) -> None:
        """End what it has in hand once it has been silent for too long, to be run elsewhere.

        Not where it refuses: one that is closing its door, or has too much to do, may well end
        what it has begun.
        """
        now_s = self._clock_s()
        if not silent:
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s >= self._pace.silence_max_s:
            before, self._client = self._client, self._made()
            await before.close()

    def _without_key(self, text: str) -> str:
        """The words of a server, which may repeat the key that it refuses."""
        return text if self._key is None else text.replace(self._key, "(the key)")

    async def _lasts(self) -> None:
        """Return once it does not answer any more."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.check_every_s):
                    await self._doubted.wait()
            try:
                await self._read_key()
                status, _ = await self._client.get("/v1/models", self._pace.check_timeout_s)
            except (EngineError, SettingsError) as error:
                self._error = error.message
                await self._weigh(silent=isinstance(error, EngineSilent))
            except TimeoutError:
                await self._weigh(silent=True)
                self._error = f"no list of models in {self._pace.check_timeout_s:g} s"
            else:
                # Servers without such a list are alive when they say so.
                self._error = None if status in (200, 404, 405) else f"its models: {status}"
            if self._error is not None:
                self._log("a server elsewhere is lost")
                return
            if self._doubted.is_set():
                self._doubted.clear()
                self._tell()

    async def _read_key(self) -> None:
        """Take a key that has been changed in its file; requests in hand keep the old one."""
        key = await asyncio.to_thread(key_of, self._remote)
        if key != self._key:
            self._key = key
            before, self._client = self._client, self._made()
            before.retire()

    def _made(self) -> EngineClient:
        origin = origin_of(self._remote, self._tls, self._key)
        if self._vllm and self._name == self._model_id:
            return EngineClient(origin)
        return RemoteClient(origin, self._name, vllm=self._vllm)

    def _become(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            self._since_s = self._clock_s()
        self._doubted.clear()
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for callback in self._subscribers:
            callback()

    def _failed(self, error: Exception) -> None:
        log.error("watching a server elsewhere failed", exc_info=error)
        self._error = "watching it failed; see the log"
        self._become(State.FAILED)

    def _log(self, text: str) -> None:
        about = {"model": self._model_id, "url": self._remote.url, "error": self._error}
        log.warning(text, extra=about)
