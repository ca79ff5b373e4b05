"""LoRA adapters on engines: whoever claims an engine for an adapter finds it loaded there.

An engine process learns an adapter when the first request for it comes, and forgets it with its
death; the next process is taught in the same way. So restarts, replicas and engines that were
swapped in need no list of what to load again. The name that an engine knows an adapter by ends
in its digest: one that was changed is another adapter, and no cached prefix of the old one fits.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from serve.core.call import Call
from serve.core.errors import EngineError, EngineUnavailable
from serve.engines.backend import Backend, Claim
from serve.engines.client import EngineClient
from serve.engines.connection import ConnectionLost
from serve.engines.status import EngineStatus

log = logging.getLogger("inhouse.engine")

LOAD_PATH: Final = "/v1/load_lora_adapter"
LOAD_TIMEOUT_S: Final = 120.0
ATTEMPTS: Final = 2
"""Engines that are asked to load an adapter for one request."""
DIGITS: Final = 12
"""Of an adapter's digest in the name that engines know it by."""


class AdapterRefused(EngineError):
    """The engine did not take an adapter that had passed every check of ours."""

    code = "adapter_not_loaded"


def engine_name(adapter_id: str, digest: str) -> str:
    """What engines call the adapter of this content."""
    return f"{adapter_id}@{digest.removeprefix('sha256:')[:DIGITS]}"


class Adapted:
    """The backend of one adapter: its base's engines, with the adapter on them.

    `name` is what engines call it, `folder` what they read; neither changes.
    """

    def __init__(self, base: Backend, name: str, folder: Path) -> None:
        self._base = base
        self._name = name
        self._folder = folder
        self._taught: weakref.WeakSet[EngineClient] = weakref.WeakSet()
        self._teaching = asyncio.Lock()

    @property
    def status(self) -> EngineStatus:
        return self._base.status

    @property
    def client(self) -> EngineClient | None:
        return self._base.client

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._base.subscribe(callback)

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        """See `serve.engines.backend.Backend.claim`; raises AdapterRefused too."""
        for attempt in range(1, ATTEMPTS + 1):
            claim = await self._base.claim(call, timeout_s, avoid)
            if claim.client in self._taught:
                return claim
            try:
                await self._teach(claim.client, call.model_id)
                return claim
            except (ConnectionLost, EngineUnavailable):
                # The engine died of something else, or with someone else.
                claim.release()
                if attempt == ATTEMPTS:
                    raise
                avoid = claim.client
            except BaseException:
                claim.release()
                raise
        raise AssertionError("the last attempt returns or raises")

    async def _teach(self, client: EngineClient, adapter_id: str) -> None:
        async with self._teaching:
            if client in self._taught:
                return
            order = {"lora_name": self._name, "lora_path": str(self._folder)}
            status, words = await _ordered(client, orjson.dumps(order))
            if status != 200 and b"already been loaded" not in words:
                log.error(
                    "an engine refused an adapter",
                    extra={"adapter": self._name, "status": status, "error": _clip(words)},
                )
                raise AdapterRefused(
                    f"{adapter_id} could not be loaded; the operator of this server can see why "
                    "in its log"
                )
            self._taught.add(client)
            log.info("adapter loaded", extra={"adapter": self._name})


async def _ordered(client: EngineClient, order: bytes) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            connection = await client.post(LOAD_PATH, order)
            try:
                return connection.status, await connection.read()
            finally:
                client.release(connection)
    except TimeoutError:
        raise AdapterRefused(f"no answer to {LOAD_PATH} in {LOAD_TIMEOUT_S:g} s") from None


def _clip(words: bytes) -> str:
    return words[:500].decode(errors="replace")
