"""The site's engines, as the admin door orders them about."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serve.api.admin.ports import Holding
from serve.core.errors import Conflict
from serve.engines.memory import NOTHING, plus
from serve.engines.portfolio import Portfolio


class PortfolioKeeper:
    """Orders to all engines of a model."""

    def __init__(self, portfolio: Portfolio) -> None:
        self._portfolio = portfolio

    async def load(self, model_id: str) -> None:
        await self._each(model_id, self._portfolio.load)

    async def sleep(self, model_id: str) -> None:
        await self._each(model_id, self._portfolio.sleep)

    async def drain(self, model_id: str) -> None:
        await self._each(model_id, self._portfolio.drain)

    async def restart(self, model_id: str) -> None:
        await self._each(model_id, self._portfolio.restart)

    def holding(self, model_id: str) -> Holding:
        engines = [one for one in self._portfolio.snapshot() if one.model_id == model_id]
        total = NOTHING
        for one in engines:
            total = plus(total, one.memory)
        return Holding(
            memory=total,
            measured=all(one.measured for one in engines),
            waiting=sum(one.waiting for one in engines),
            swap_s=max((one.swap_s for one in engines if one.swap_s is not None), default=None),
            loads=sum(one.loads for one in engines),
            evictions=sum(one.evictions for one in engines),
        )

    def memory(self) -> Mapping[str, Any]:
        return {
            "capacity_bytes": dict(self._portfolio.capacity),
            "held_bytes": dict(self._portfolio.held()),
        }

    async def _each(self, model_id: str, order: Callable[[str], Awaitable[None]]) -> None:
        engines = [
            one for one in self._portfolio.residents()
            if one.model.id == model_id and not one.retiring
        ]  # fmt: skip
        if not engines:
            raise Conflict(
                f"{model_id} has no engine on this machine; it is loaded and stopped where it runs"
            )
        await asyncio.gather(*(order(one.key) for one in engines))
