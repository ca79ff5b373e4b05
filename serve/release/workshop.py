"""Units of this machine: engines of the portfolio, joined to one backend for each model."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from serve.catalogue import Catalogue
from serve.core.errors import EngineError
from serve.engines.backend import Backend
from serve.engines.ensemble import remotes_of
from serve.engines.foundry import Foundry
from serve.engines.memory import NOTHING, Amounts, Footprint, plus
from serve.engines.planner import Posture, held
from serve.engines.portfolio import Portfolio
from serve.engines.resident import Resident
from serve.engines.states import State
from serve.release.plan import Room
from serve.served import Served
from serve.settings.model import ServedModel
from serve.settings.site import Site

log = logging.getLogger("inhouse.release")

GENERATION: Final = "~"
"""Between a model's id and a number in the key of a later engine; no name has it."""

Join = Callable[[ServedModel, Sequence[Resident]], Backend]
"""The backend of a model, from its engines on this machine (none: it is answered elsewhere)."""


class LocalUnit:
    """A model and its engines here."""

    def __init__(
        self,
        model: ServedModel,
        residents: Sequence[Resident],
        backend: Backend,
        portfolio: Portfolio,
        foundry: Foundry,
    ) -> None:
        self._model = model
        self._residents = tuple(residents)
        self._backend = backend
        self._portfolio = portfolio
        self._foundry = foundry
        self._loading: asyncio.Task[None] | None = None

    @property
    def model(self) -> ServedModel:
        return self._model

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def awake(self) -> bool:
        return any(one.posture is not Posture.ABSENT for one in self._residents)

    async def start(self, *, patient: bool = False) -> None:
        """See `serve.release.ports.Unit`."""
        await self.enlist()
        try:
            async with asyncio.TaskGroup() as group:
                for one in self._residents:
                    group.create_task(self._load(one, patient=patient))
                for remote in remotes_of(self._backend):
                    group.create_task(remote.proven())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def enlist(self) -> None:
        """See `serve.release.ports.Unit`."""
        for remote in remotes_of(self._backend):
            remote.start()
        there = {one.key for one in self._portfolio.residents()}
        for one in self._residents:
            if one.key not in there:
                one.retiring = False
                one.close(None)
                self._portfolio.add(one)

    async def retire(self, drain_timeout_s: float) -> None:
        """See `serve.release.ports.Unit`."""
        if self._loading is not None:
            self._loading.cancel()
        there = {one.key for one in self._portfolio.residents()}
        going = [one for one in self._residents if one.key in there]
        await asyncio.gather(
            *(self._portfolio.remove(one.key, drain_timeout_s) for one in going),
            *(remote.stop(drain_timeout_s) for remote in remotes_of(self._backend)),
        )
        for one in going:
            self._foundry.forget(one.key)

    def adopt(self, model: ServedModel) -> None:
        """See `serve.release.ports.Unit`."""
        wanted_now = model.load == "startup" and self._model.load != "startup"
        self._model = model
        for one in self._residents:
            one.model = model
        self._portfolio.nudge()
        if wanted_now and not self.awake:
            self._loading = asyncio.create_task(self._load_quietly(), name=f"load {model.id}")

    async def _load_quietly(self) -> None:
        try:
            await self.start(patient=True)
        except EngineError as error:
            log.error("%s", error.message, extra={"model": self._model.id})

    async def _load(self, one: Resident, *, patient: bool) -> None:
        """Have it ready. A patient one lets the supervisor try again after a crash."""
        loading = asyncio.create_task(self._portfolio.load(one.key))
        try:
            while not loading.done():
                before = one.supervisor.status
                changed = asyncio.create_task(one.changed())
                await asyncio.wait({loading, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                now = one.supervisor.status
                crashed = now.last_error is not None and now.state is not State.READY
                new = (now.last_error, now.restarts) != (before.last_error, before.restarts)
                if crashed and new and not patient:
                    raise self._failed(one)
            try:
                await loading
            except EngineError as error:
                if one.supervisor.status.last_error is None:
                    raise EngineError(f"{one.model.id} was not started: {error.message}") from None
                raise self._failed(one) from None
        finally:
            loading.cancel()

    def _failed(self, one: Resident) -> EngineError:
        return EngineError(
            f"{one.model.id} could not be started: {one.supervisor.status.last_error}"
        )


class LocalWorkshop:
    """Makes units of this machine (see `serve.release.ports.Workshop`)."""

    def __init__(
        self, foundry: Foundry, portfolio: Portfolio, catalogue: Catalogue, join: Join
    ) -> None:
        self._foundry = foundry
        self._portfolio = portfolio
        self._catalogue = catalogue
        self._join = join
        self._numbers = itertools.count(1)

    def present(self, served: Iterable[Served]) -> dict[str, LocalUnit]:
        """The units of what was published first, whose engines are in the portfolio already."""
        return {
            one.model.id: LocalUnit(
                one.model,
                self._residents(one.model.id),
                one.backend,
                self._portfolio,
                self._foundry,
            )
            for one in served
        }

    def fingerprint(self, model: ServedModel) -> str:
        return self._catalogue.fingerprint(model)

    def unit(self, site: Site, model: ServedModel) -> LocalUnit:
        """See `serve.release.ports.Workshop`."""
        residents = [
            self._foundry.resident(
                model,
                site.engine_defaults,
                site.limits.waiting_requests,
                f"{model.id}{GENERATION}{next(self._numbers)}",
                at,
            )
            for at in range(_engines(model))
        ]
        backend = self._join(model, residents)
        return LocalUnit(model, residents, backend, self._portfolio, self._foundry)

    def served(self, pairs: Sequence[tuple[ServedModel, Backend]]) -> tuple[Served, ...]:
        return self._catalogue.served(pairs)

    def looked_again(self, served: Sequence[Served]) -> tuple[Served, ...]:
        return self._catalogue.looked_again(served)

    async def room(self, site: Site) -> Room:
        """See `serve.release.ports.Workshop`."""
        footprints = await asyncio.to_thread(lambda: dict(self._footprints(site)))
        foreseen = {
            model_id: [self._portfolio.foresee(one) for one in each]
            for model_id, each in footprints.items()
        }
        loads = {one.model.config.name: one.load_s for one in self._portfolio.residents()}
        held_by: dict[str, Amounts] = {}
        for one in self._portfolio.residents():
            held_by[one.model.id] = plus(held_by.get(one.model.id, NOTHING), held(one.tenant()))
        needs: dict[str, Amounts] = {}
        start_s: dict[str, float] = {}
        for model in site.models:
            if model.id not in foreseen:
                continue
            for need, _ in foreseen[model.id]:
                needs[model.id] = plus(needs.get(model.id, NOTHING), need.awake)
            load_s = foreseen[model.id][0][1] or loads.get(model.config.name)
            if load_s is not None:
                start_s[model.id] = load_s
        return Room(
            capacity=self._portfolio.capacity,
            free=self._portfolio.free(),
            held=held_by,
            needs=needs,
            movable=tuple(dict.fromkeys(self._movable())),
            start_s=start_s,
        )

    def _footprints(self, site: Site) -> Iterator[tuple[str, list[Footprint]]]:
        for model in site.models:
            if model.engine is None:
                yield (
                    model.id,
                    [
                        self._foundry.footprint(model, site.engine_defaults, at)
                        for at in range(_engines(model))
                    ],
                )

    def _movable(self) -> list[str]:
        """Models that may be put out: first those that nobody uses, least recently used first."""
        there = (Posture.AWAKE, Posture.ASLEEP)
        found = [
            one for one in self._portfolio.residents() if not one.model.pin and one.posture in there
        ]
        found.sort(key=lambda one: (one.in_use > 0, one.last_used_s))
        return [one.model.id for one in found]

    def _residents(self, model_id: str) -> list[Resident]:
        return [one for one in self._portfolio.residents() if one.model.id == model_id]


def _engines(model: ServedModel) -> int:
    """How many engines here answer for a model."""
    return 0 if model.engine is not None else model.replicas
