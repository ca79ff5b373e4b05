"""Engines that take orders and do nothing but write them down."""

import asyncio
from collections.abc import Mapping
from typing import Any

from serve.api.admin.ports import Holding


class Keeper:
    """Begins each order at once and carries it out when `go` is set."""

    def __init__(self, *, go: bool) -> None:
        self.go = asyncio.Event()
        if go:
            self.go.set()
        self.begun: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    async def _do(self, kind: str, model_id: str) -> None:
        self.begun.append((kind, model_id))
        await self.go.wait()
        self.done.append((kind, model_id))
        if self.failure is not None:
            raise self.failure

    async def load(self, model_id: str) -> None:
        await self._do("load", model_id)

    async def sleep(self, model_id: str) -> None:
        await self._do("sleep", model_id)

    async def drain(self, model_id: str) -> None:
        await self._do("drain", model_id)

    async def restart(self, model_id: str) -> None:
        await self._do("restart", model_id)

    def holding(self, model_id: str) -> Holding:
        return Holding(memory={"host": 123}, waiting=4, swap_s=1.5)

    def memory(self) -> Mapping[str, Any]:
        return {"capacity_bytes": {"host": 2}, "held_bytes": {"host": 1}}
