"""The difference of two sites as ordered steps, with what fits beside what. Pure.

An engine is started beside the one that it replaces wherever memory allows that; then nobody
waits. Where it does not, the old one is drained and stopped first, and requests wait for the new
one. Models that differ only in how they are called keep their engines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from serve.engines.memory import NOTHING, REMEDY, Amounts, in_words, minus, plus, short_of
from serve.release.difference import (
    AT_NEXT_START,
    AT_ONCE,
    FOR_NEW_ENGINES,
    NEEDS_RESTART,
    changed_settings,
    engine_changes,
    placement_changes,
)
from serve.settings.model import ServedModel
from serve.settings.names import names_of
from serve.settings.site import Site


class Kind(StrEnum):
    """What is done about one model."""

    KEEP = "keep"
    RENAME = "rename"
    """Another name, alias or placement; the engine goes on."""
    START = "start"
    REPLACE = "replace"
    STOP = "stop"


class Way(StrEnum):
    """How an engine comes in."""

    NONE = "none"
    """It is not started now: nobody asks for it, or it runs already."""
    BESIDE = "beside"
    SWAP = "swap"
    """After others have been stopped for it."""


@dataclass(frozen=True, slots=True)
class Present:
    """What runs: the site, what each of its models is made of, and which engines are awake.

    `fingerprints` are by model id (`serve.engines.fingerprint`).
    """

    site: Site
    fingerprints: Mapping[str, str]
    awake: frozenset[str]


@dataclass(frozen=True, slots=True)
class Room:
    """Memory as it is: `free` of the `capacity`, what each running model holds, what each wanted
    one needs (measured, or by estimate), and which may be put out to make room, in that order.
    `start_s` is what the latest start of each wanted model took."""

    capacity: Amounts = field(default_factory=dict)
    free: Amounts = field(default_factory=dict)
    held: Mapping[str, Amounts] = field(default_factory=dict)
    needs: Mapping[str, Amounts] = field(default_factory=dict)
    movable: tuple[str, ...] = ()
    start_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one model.

    `model_id` is what it will be called (of one that stops: what it is called), `was` the running
    model that it takes over from. `after_stopping` are the running models that end before its
    engine starts, `evicts` those that give their memory back and stay served.
    `interruption_s` is for how long requests are expected to wait, None where no start of it has
    been measured.
    """

    kind: Kind
    model_id: str
    was: str | None = None
    reasons: tuple[str, ...] = ()
    way: Way = Way.NONE
    after_stopping: tuple[str, ...] = ()
    evicts: tuple[str, ...] = ()
    needs: Amounts = field(default_factory=dict)
    free: Amounts = field(default_factory=dict)
    interruption_s: float | None = 0.0
    eval_sets: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, in the order in which they are done; each model is in exactly one.

    `at_once` are settings that change with the traffic, `later` those that wait for a new engine
    or for the server's next start, `refused` why this cannot be applied at all.
    """

    steps: tuple[Step, ...] = ()
    at_once: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that do something."""
        return tuple(step for step in self.steps if step.kind is not Kind.KEEP)

    def of(self, way: Way) -> tuple[Step, ...]:
        """The steps that start an engine in this way."""
        return tuple(step for step in self.steps if step.way is way)


def plan(present: Present, wanted: Site, fingerprints: Mapping[str, str], room: Room) -> Plan:
    """The steps from what runs to `wanted`, whose models have these `fingerprints`."""
    old = present.site
    steps = list(_steps(present, wanted, fingerprints))
    refused = _misfit(wanted.models, room)
    placed, unplaced = _placed(steps, room)
    refused += () if refused else tuple(unplaced)
    restart = changed_settings(old, wanted, NEEDS_RESTART)
    return Plan(
        steps=tuple(placed),
        at_once=changed_settings(old, wanted, AT_ONCE),
        later=(
            *(f"{one} (for engines that start from now on)"
              for one in changed_settings(old, wanted, FOR_NEW_ENGINES)),
            *(f"{one} (when the server is restarted)"
              for one in changed_settings(old, wanted, AT_NEXT_START)),
        ),
        refused=(
            *(f"{one}: cannot be changed while the server runs; restart the server"
              for one in restart),
            *refused,
        ),
    )  # fmt: skip


def _pairs(
    old: Sequence[ServedModel], new: Sequence[ServedModel]
) -> Iterator[tuple[ServedModel | None, ServedModel | None]]:
    """Each model with the one that takes over from it: of the same id, else the only one left of
    the same name on either side."""
    before = {one.id: one for one in old}
    after = {one.id: one for one in new}
    gone = [one for one in old if one.id not in after]
    come = [one for one in new if one.id not in before]
    heirs: dict[str, ServedModel] = {}
    for one in gone:
        same = [[each for each in many if each.config.name == one.config.name]
                for many in (gone, come)]  # fmt: skip
        if len(same[0]) == len(same[1]) == 1:
            heirs[same[1][0].id] = one
    for one in new:
        yield before.get(one.id) or heirs.get(one.id), one
    inherited = {one.id for one in heirs.values()}
    yield from ((one, None) for one in gone if one.id not in inherited)


def _steps(present: Present, wanted: Site, fingerprints: Mapping[str, str]) -> Iterator[Step]:
    """The steps without their way: memory comes later."""
    profile = changed_settings(present.site, wanted, ("engine_defaults.profile",))
    names_before = _names(present.site.models)
    names_after = _names(wanted.models)
    for old, new in _pairs(present.site.models, wanted.models):
        if new is None:
            assert old is not None
            yield Step(Kind.STOP, old.id, was=old.id)
            continue
        sets = len(new.config.evals)
        if old is None:
            starts = new.load == "startup" or sets > 0
            way = Way.BESIDE if starts else Way.NONE
            yield Step(Kind.START, new.id, way=way, eval_sets=sets if starts else 0)
            continue
        reasons = engine_changes(old, new)
        if new.engine is None:
            reasons += profile
        if not reasons and present.fingerprints.get(old.id) != fingerprints.get(new.id):
            reasons = ("the weights or the chat template were changed where they lie",)
        if reasons:
            starts = new.load == "startup" or sets > 0 or old.id in present.awake
            way = Way.BESIDE if starts else Way.NONE
            yield Step(Kind.REPLACE, new.id, old.id, reasons, way, eval_sets=sets if starts else 0)
            continue
        reasons = placement_changes(old, new)
        if not reasons and names_before[old.id] != names_after[new.id]:
            reasons = (f"names: {_listed(names_before[old.id])} → {_listed(names_after[new.id])}",)
        yield Step(Kind.RENAME if reasons else Kind.KEEP, new.id, old.id, reasons)


def _names(models: Sequence[ServedModel]) -> dict[str, tuple[str, ...]]:
    own = names_of([one.entry for one in models])
    return {one.id: names for one, names in zip(models, own, strict=True)}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


# Memory

_LAST = {Kind.START: 0, Kind.REPLACE: 0, Kind.RENAME: 1, Kind.KEEP: 2, Kind.STOP: 3}
"""The order of the steps that start nothing."""


def _misfit(models: Sequence[ServedModel], room: Room) -> tuple[str, ...]:
    """Why the models that must be there together cannot be."""
    firm = [one.id for one in models if one.pin or one.load == "startup"]
    total: Amounts = NOTHING
    for model_id in firm:
        total = plus(total, room.needs.get(model_id, NOTHING))
    short = short_of(total, room.capacity)
    if not room.capacity or not short:
        return ()
    each = "; ".join(f"{one} {in_words(room.needs.get(one, NOTHING))}" for one in firm)
    return (
        f"the models that are pinned or loaded at startup do not fit together: {in_words(total)} "
        f"needed, {in_words(room.capacity)} granted ({each}); {REMEDY}",
    )


def _placed(steps: Sequence[Step], room: Room) -> tuple[list[Step], list[str]]:
    """The steps with their ways, in the order in which they are done, and why some cannot be.

    Those that fit come first: as long as only they have been started, a failure interrupts nobody.
    """
    free = room.free
    placed: list[Step] = []
    waiting: list[Step] = []
    others = sorted((one for one in steps if one.way is Way.NONE), key=lambda one: _LAST[one.kind])
    for step in steps:
        if step.way is Way.NONE:
            continue
        needs = room.needs.get(step.model_id, NOTHING)
        if short_of(needs, free):
            waiting.append(step)
            continue
        placed.append(replace(step, needs=needs, free=free))
        free = minus(free, needs)
    leaving = [step.model_id for step in steps if step.kind is Kind.STOP]
    staying = {step.was for step in steps if step.kind in (Kind.KEEP, Kind.RENAME)}
    movable = [one for one in room.movable if one in staying]
    refused = []
    for step in waiting:
        made = _swapped(step, room, free, leaving, movable)
        if made is None:
            needs = room.needs[step.model_id]
            refused.append(
                f"{step.model_id}: needs {in_words(needs)}, which is not free even after all "
                f"that may be stopped for it (free now: {in_words(free)}); grant more in memory, "
                "or serve less beside it"
            )
            continue
        for one in made.after_stopping:
            free = plus(free, room.held.get(one, NOTHING))
        for one in made.evicts:
            free = plus(free, room.held.get(one, NOTHING))
            movable.remove(one)
        leaving = [one for one in leaving if one not in made.after_stopping]
        placed.append(replace(made, free=free))
        free = minus(free, made.needs)
    return [*placed, *others], refused


def _swapped(
    step: Step, room: Room, free: Amounts, leaving: Sequence[str], movable: Sequence[str]
) -> Step | None:
    """The step with the fewest stopped before it: its own predecessor, those that leave anyway,
    those that may be put out; None where all of them are not enough."""
    needs = room.needs[step.model_id]
    own = [step.was] if step.was is not None else []
    stopped: list[str] = []
    evicted: list[str] = []
    for chosen, candidates in ((stopped, own), (stopped, leaving), (evicted, movable)):
        for one in candidates:
            gives = room.held.get(one, NOTHING)
            short = short_of(needs, free)
            if short and any(gives.get(pool) for pool in short):
                chosen.append(one)
                free = plus(free, gives)
    if short_of(needs, free):
        return None
    waits = step.was is not None and step.was in stopped
    return replace(
        step,
        way=Way.SWAP if stopped else Way.BESIDE,
        after_stopping=tuple(stopped),
        evicts=tuple(evicted),
        needs=needs,
        interruption_s=room.start_s.get(step.model_id) if waits else 0.0,
    )
