"""One plan carried out: new engines first, then the traffic, then the end of the old ones.

Until the traffic has moved, every step leaves behind what undoes it; a failure undoes them all,
the latest first, and what ran before goes on.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from serve.core.errors import EngineError, InhouseError
from serve.engines.backend import Backend
from serve.pipeline import Pipeline
from serve.release.archive import Archive
from serve.release.evals import evaluate
from serve.release.events import Event, Stage
from serve.release.handover import Handover
from serve.release.plan import Kind, Plan, Step, Way
from serve.release.ports import Unit, Workshop
from serve.release.render import wait_of
from serve.served import Served
from serve.settings.cases import Cases
from serve.settings.model import ServedModel
from serve.settings.site import Site

log = logging.getLogger("inhouse.release")

Tell = Callable[[Event], None]

RETRY_GUESS_S = 30.0
"""For requests that wait for a model whose start has never been measured."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is wanted: the site, what it takes, the questions of its models, and what makes its
    own settings count."""

    site: Site
    plan: Plan
    cases: Mapping[str, tuple[Cases, ...]]
    fingerprints: Mapping[str, str]
    settle: Callable[[], None]


class Refused(InhouseError):
    """A new engine did not pass its evaluation."""


class Rollout:
    """Carries out one change. `units` are those that run, by model id."""

    def __init__(
        self,
        change: Change,
        units: Mapping[str, Unit],
        workshop: Workshop,
        pipeline: Pipeline,
        archive: Archive,
        tell: Tell,
    ) -> None:
        self._change = change
        self._old = dict(units)
        self._new: dict[str, Unit] = {}
        self._workshop = workshop
        self._pipeline = pipeline
        self._archive = archive
        self._tell = tell
        self._before = pipeline.served
        self._models = {one.id: one for one in change.site.models}
        self._ended: set[str] = set()
        """Running models whose engines were stopped to make room."""
        self._handovers: dict[str, Handover] = {}
        self.closing = False
        """The server stops: nothing that was stopped is worth starting again."""

    async def run(self) -> dict[str, Unit]:
        """The units that run afterwards. Raises InhouseError once everything is as it was."""
        async with AsyncExitStack() as undo:
            for step in self._change.plan.steps:
                await self._take(step, undo)
            served = await self._catalogued()
            # From here on nothing can fail, and nothing waits.
            undo.pop_all()
            self._shift(served)
        await self._drain()
        return {**self._kept(), **self._new}

    async def _take(self, step: Step, undo: AsyncExitStack) -> None:
        if step.kind not in (Kind.START, Kind.REPLACE):
            return
        model = self._models[step.model_id]
        unit = await asyncio.to_thread(self._workshop.unit, self._change.site, model)
        for one in step.after_stopping:
            await self._make_way(one, step, undo)
        undo.push_async_callback(unit.retire, 0.0)
        self._new[step.model_id] = unit
        if step.way is Way.NONE:
            await unit.enlist()
            return
        self._say(Stage.STARTING, f"starting {model.id}", model)
        await unit.start()
        self._say(Stage.READY, f"{model.id} answers", model)
        await self._evaluate(unit)

    async def _make_way(self, model_id: str, step: Step, undo: AsyncExitStack) -> None:
        """Stop a running model's engine; requests for it wait for what comes."""
        unit = self._old[model_id]
        limits = self._change.site.limits
        handover = Handover(
            unit.backend, limits.waiting_requests, step.interruption_s or RETRY_GUESS_S
        )
        self._handovers[model_id] = handover
        undo.push_async_callback(self._bring_back, unit)
        self._publish_waiting()
        waits = f"requests for it wait: {wait_of(step)}"
        self._say(Stage.WAITING, f"stopping {model_id} to make room; {waits}", unit.model)
        self._ended.add(model_id)
        await unit.retire(self._change.site.engine_defaults.drain_timeout_s)

    async def _bring_back(self, unit: Unit) -> None:
        """Have a stopped engine serve again; who waits for it waits on."""
        if self.closing:
            return
        model_id = unit.model.id
        self._say(Stage.STARTING, f"starting {model_id} again", unit.model)
        await unit.enlist()
        self._ended.discard(model_id)
        handover = self._handovers.pop(model_id)
        self._publish_waiting()
        handover.end()
        try:
            await unit.start(patient=True)
        except EngineError as error:
            log.error("not brought back: %s", error.message, extra={"model": model_id})
            self._say(
                Stage.ROLLING_BACK, f"{model_id} does not start again: {error.message}", unit.model
            )

    def _publish_waiting(self) -> None:
        """The site as it was, with handovers where engines are gone."""
        self._pipeline.publish(
            tuple(
                _answered_by(one, handover)
                if (handover := self._handovers.get(one.model.id)) is not None
                else one
                for one in self._before
            )
        )

    async def _evaluate(self, unit: Unit) -> None:
        model = unit.model
        for cases in self._change.cases.get(model.id, ()):
            client = unit.backend.client
            if client is None:
                raise EngineError(f"{model.id} ended before it could be evaluated")

            def progress(done: int, of: int) -> None:
                text = f"evaluating {model.id} {done}/{of}"
                self._tell(Event(Stage.EVALUATING, text, model.id, done, of))

            result = await evaluate(cases, client, model.id, progress)
            fingerprint = self._change.fingerprints[model.id]
            await asyncio.to_thread(self._archive.keep_result, model, fingerprint, result)
            if not result.good:
                raise Refused(f"{model.id} does not pass {result}")
            self._say(Stage.EVALUATING, f"{model.id} passes {result}", model)

    # Traffic

    async def _catalogued(self) -> tuple[Served, ...]:
        there = self._after()
        pairs: list[tuple[ServedModel, Backend]] = [
            (model, there[model.id].backend) for model in self._change.site.models
        ]
        return await asyncio.to_thread(self._workshop.served, pairs)

    def _shift(self, served: tuple[Served, ...]) -> None:
        for model_id, unit in self._kept().items():
            unit.adopt(self._models[model_id])
        self._pipeline.publish(served, self._change.site.routes)
        self._change.settle()
        for handover in self._handovers.values():
            handover.end()
        self._tell(Event(Stage.SHIFTED, "requests go to the new site from now on"))

    async def _drain(self) -> None:
        """End the engines that nobody is sent to any more."""
        timeout_s = self._change.site.engine_defaults.drain_timeout_s
        going = self._leaving()
        if going:
            names = ", ".join(one.model.id for one in going)
            self._tell(Event(Stage.DRAINING, f"ending the old {names} within {timeout_s:g} s"))
        ends = await asyncio.gather(
            *(one.retire(timeout_s) for one in going), return_exceptions=True
        )
        for unit, error in zip(going, ends, strict=True):
            if isinstance(error, Exception):
                log.error("an old engine was not ended: %s", error, extra={"model": unit.model.id})

    def _kept(self) -> dict[str, Unit]:
        """The units that go on, by the id that they have in the new site."""
        return {
            step.model_id: self._old[step.was]
            for step in self._change.plan.steps
            if step.kind in (Kind.KEEP, Kind.RENAME) and step.was is not None
        }

    def _after(self) -> dict[str, Unit]:
        return {**self._kept(), **self._new}

    def _leaving(self) -> list[Unit]:
        stay = {id(unit) for unit in self._kept().values()}
        return [
            unit
            for model_id, unit in self._old.items()
            if id(unit) not in stay and model_id not in self._ended
        ]

    def _say(self, stage: Stage, text: str, model: ServedModel) -> None:
        self._tell(Event(stage, text, model.id))


def _answered_by(one: Served, backend: Backend) -> Served:
    """The same model, with another backend for it and for its adapters."""
    adapters = tuple(replace(adapter, backend=backend) for adapter in one.adapters)
    return replace(one, backend=backend, adapters=adapters)
