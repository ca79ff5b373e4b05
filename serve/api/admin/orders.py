"""An operator's orders: one at a time for each model, carried out whoever still listens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from serve.api.admin.ports import Keeper
from serve.core.clock import Clock
from serve.core.errors import Conflict, RequestError

log = logging.getLogger("inhouse.admin")

Kind = Literal["load", "sleep", "drain", "restart"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a model's last order ended; `error` is None where it was carried out."""

    kind: Kind
    took_s: float
    error: RequestError | None


@dataclass(frozen=True, slots=True)
class Order:
    """One that is being carried out, since `began_s` (monotonic)."""

    kind: Kind
    began_s: float
    task: "asyncio.Task[None]"


class Orders:
    """Takes orders and carries them out.

    The same order given twice is one order; another for the same model is refused until the first
    has ended. An order lasts as long as it lasts: who gave it may leave.
    """

    def __init__(self, keeper: Keeper, clock: Clock) -> None:
        self._clock = clock
        self._doing: Mapping[Kind, Callable[[str], Awaitable[None]]] = {
            "load": keeper.load,
            "sleep": keeper.sleep,
            "drain": keeper.drain,
            "restart": keeper.restart,
        }
        self._current: dict[str, Order] = {}
        self._ended: dict[str, Ended] = {}

    def current(self, model_id: str) -> Order | None:
        """What is being done to the model."""
        return self._current.get(model_id)

    @property
    def under_way(self) -> str | None:
        """One that is being carried out, in words."""
        return next((f"{one.kind} {name}" for name, one in self._current.items()), None)

    def last(self, model_id: str) -> Ended | None:
        """How the order before ended, in this server's life."""
        return self._ended.get(model_id)

    async def give(self, kind: Kind, model_id: str, wait_s: float) -> None:
        """Begin, or join, an order, and wait for its end for at most `wait_s`.

        Raises Conflict where another is under way, and the order's own RequestError.
        """
        order = self._current.get(model_id)
        if order is None:
            work = self._carry_out(kind, model_id)
            task = asyncio.create_task(work, name=f"{kind} {model_id}")
            order = self._current[model_id] = Order(kind, self._clock.monotonic_s(), task)
        elif order.kind != kind:
            raise Conflict(
                f"{model_id}: an order to {order.kind} it is being carried out; wait for its end, "
                f"then {kind}"
            )
        done, _ = await asyncio.wait({order.task}, timeout=wait_s)
        if done and (ended := self._ended.get(model_id)) is not None and ended.error is not None:
            raise ended.error

    async def close(self) -> None:
        """Leave off what is under way; the models stay as they are."""
        tasks = {order.task for order in self._current.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _carry_out(self, kind: Kind, model_id: str) -> None:
        began_s = self._clock.monotonic_s()
        error: RequestError | None = None
        log.info("order", extra={"order": kind, "model": model_id})
        try:
            await self._doing[kind](model_id)
        except RequestError as refused:
            error = refused
        except Exception:
            log.exception("an order failed", extra={"order": kind, "model": model_id})
            error = RequestError(f"the order to {kind} {model_id} failed; the log says why")
        finally:
            del self._current[model_id]
            took_s = self._clock.monotonic_s() - began_s
            self._ended[model_id] = Ended(kind, took_s, error)
        log.info("order ended", extra={"order": kind, "model": model_id, "took_s": took_s})
