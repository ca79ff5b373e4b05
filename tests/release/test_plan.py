"""The difference of two sites: a table of changes, and what holds of every plan."""

import random
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from serve.engines.memory import Amounts, plus
from serve.release.plan import Kind, Plan, Present, Room, Step, Way, plan
from serve.release.render import document, lines
from serve.settings.evals import EvalSet
from serve.settings.model import ModelConfig, ServedModel
from serve.settings.operation import Memory
from serve.settings.remote import Remote
from serve.settings.site import EngineDefaults, Limits, Listen, Site


def model(name: str, **fields: Any) -> ServedModel:
    """A model; what is no placement is of its config."""
    placed = {key: fields.pop(key) for key in tuple(fields) if key in ServedModel.model_fields}
    given = {"name": name, "source": {"path": Path("none")}, "context_tokens": 100} | fields
    return ServedModel(config=ModelConfig.model_validate(given), **placed)


def site(*models: ServedModel, **fields: Any) -> Site:
    return Site.model_validate({"site": "t", "models": models, "var_dir": Path("/v")} | fields)


def planned(
    old: Site,
    new: Site,
    room: Room | None = None,
    awake: frozenset[str] | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> Plan:
    everything = frozenset(one.id for one in old.models)
    present = Present(old, {}, everything if awake is None else awake)
    if fingerprints is not None:
        present = Present(old, fingerprints, present.awake)
    return plan(present, new, {}, room or Room())


def told(made: Plan) -> list[str]:
    return [
        f"{step.kind} {step.model_id}" + (f" ({step.way})" if step.way is not Way.NONE else "")
        for step in made.steps
    ]


EVALS = (EvalSet(path=Path("/e.jsonl")),)
NOV = date(2026, 11, 1)
DEC = date(2026, 12, 1)
TABLE: dict[str, tuple[list[ServedModel], list[ServedModel], list[str]]] = {
    "nothing": ([model("a")], [model("a")], ["keep a"]),
    "order": ([model("a"), model("b")], [model("b"), model("a")], ["keep b", "keep a"]),
    "alias": ([model("a")], [model("a", aliases=("x",))], ["rename a"]),
    "pin": ([model("a")], [model("a", pin=True)], ["rename a"]),
    "deprecated": ([model("a")], [model("a", deprecated=NOV)], ["rename a"]),
    "context": ([model("a")], [model("a", context_tokens=90)], ["replace a (beside)"]),
    "flag": (
        [model("a")],
        [model("a", engine_args={"enforce-eager": True})],
        ["replace a (beside)"],
    ),
    "sampling": (
        [model("a")],
        [model("a", sampling={"temperature": 0.5})],
        ["replace a (beside)"],
    ),
    "replicas": ([model("a")], [model("a", replicas=2)], ["replace a (beside)"]),
    "remote": (
        [model("a")],
        [model("a", engine=Remote(url="https://n:1"))],
        ["replace a (beside)"],
    ),
    "first snapshot": ([model("a")], [model("a", snapshot=NOV)], ["replace a-2026-11-01 (beside)"]),
    "next snapshot": (
        [model("a", snapshot=NOV)],
        [model("a", snapshot=DEC)],
        ["replace a-2026-12-01 (beside)"],
    ),
    "two side by side": (
        [model("a", snapshot=NOV)],
        [model("a", snapshot=NOV), model("a", snapshot=DEC)],
        ["start a-2026-12-01 (beside)", "rename a-2026-11-01"],
    ),
    "the older goes": (
        [model("a", snapshot=NOV), model("a", snapshot=DEC)],
        [model("a", snapshot=DEC)],
        ["keep a-2026-12-01", "stop a-2026-11-01"],
    ),
    "another": ([model("a")], [model("b")], ["start b (beside)", "stop a"]),
    "on demand": ([model("a")], [model("a"), model("b", load="on_demand")], ["start b", "keep a"]),
    "on demand, evaluated": (
        [model("a")],
        [model("a"), model("b", load="on_demand", evals=EVALS)],
        ["start b (beside)", "keep a"],
    ),
    "adapters listed": (
        [model("a", adapters=[{"name": "x", "path": "/x"}])],
        [model("a", adapters=[{"name": "x", "path": "/y"}, {"name": "z", "path": "/z"}])],
        ["rename a"],
    ),
    "first adapter": (
        [model("a")],
        [model("a", adapters=[{"name": "x", "path": "/x"}])],
        ["replace a (beside)"],
    ),
    "more evals": ([model("a")], [model("a", evals=EVALS)], ["rename a"]),
}


@pytest.mark.parametrize(("old", "new", "steps"), TABLE.values(), ids=TABLE.keys())
def test_steps(old: list[ServedModel], new: list[ServedModel], steps: list[str]) -> None:
    made = planned(site(*old), site(*new))
    assert told(made) == steps
    assert not made.refused
    assert all(step.interruption_s == 0 for step in made.steps)
    assert all(step.reasons for step in made.steps if step.kind in (Kind.REPLACE, Kind.RENAME))


def test_reasons_name_what_changed() -> None:
    new = model("a", context_tokens=90, engine_args={"enforce-eager": True}, aliases=("x",))
    (step,) = planned(site(model("a")), site(new)).steps
    assert step.reasons == (
        "context_tokens: 100 → 90",
        "engine_args.enforce-eager: none → true",
    )


def test_weights_that_changed_where_they_lie_are_a_change() -> None:
    present = Present(site(model("a")), {"a": "fp_1"}, frozenset({"a"}))
    (step,) = plan(present, site(model("a")), {"a": "fp_2"}, Room()).steps
    assert (step.kind, step.way) == (Kind.REPLACE, Way.BESIDE)
    assert "weights" in step.reasons[0]


def test_an_engine_that_sleeps_is_not_woken_to_be_replaced() -> None:
    old = site(model("a", load="on_demand"))
    new = site(model("a", load="on_demand", context_tokens=90))
    assert told(planned(old, new, awake=frozenset())) == ["replace a"]
    assert told(planned(old, new)) == ["replace a (beside)"]


def test_a_profile_is_of_every_engine_here() -> None:
    remote = model("r", engine=Remote(url="https://n:1"))
    old = site(model("a"), remote)
    new = site(model("a"), remote, engine_defaults=EngineDefaults(profile="stock"))
    assert told(planned(old, new)) == ["replace a (beside)", "keep r"]


RESTART = {
    "listen.port": {"listen": Listen(port=9)},
    "listen.host": {"listen": Listen(host="127.0.0.2")},
    "var_dir": {"var_dir": Path("/w")},
    "engine_defaults.kind": {"engine_defaults": EngineDefaults(kind="fake")},
    "admin.socket": {"admin": {"socket": Path("/s")}},
}


@pytest.mark.parametrize(("name", "fields"), RESTART.items(), ids=RESTART.keys())
def test_what_needs_a_restart_is_refused_by_name(name: str, fields: dict[str, Any]) -> None:
    (refused,) = planned(site(model("a")), site(model("a"), **fields)).refused
    assert refused.startswith(f"{name}: ")
    assert refused.endswith("restart the server")


def test_settings_that_count_at_once_and_later() -> None:
    new = site(
        model("a"),
        limits=Limits(choices=2),
        memory=Memory(host_gib=4),
        engine_defaults=EngineDefaults(hang_idle_s=20, drain_timeout_s=5),
        log={"level": "debug", "format": "json"},
    )
    made = planned(site(model("a")), new)
    assert [one.partition(":")[0] for one in made.at_once] == [
        "limits.choices", "log.level", "engine_defaults.drain_timeout_s",
    ]  # fmt: skip
    assert [one.partition(":")[0] for one in made.later] == [
        "engine_defaults.hang_idle_s", "memory.host_gib", "log.format",
    ]  # fmt: skip
    assert not made.refused
    assert not made.changes


# Memory


def roomy(free: int, held: dict[str, int], needs: dict[str, int], **more: Any) -> Room:
    def amounts(sizes: dict[str, int]) -> dict[str, Amounts]:
        return {key: {"host": size} for key, size in sizes.items()}

    capacity = {"host": free + sum(held.values())}
    return Room(capacity, {"host": free}, amounts(held), amounts(needs), **more)


def changed(name: str, **fields: Any) -> ServedModel:
    return model(name, context_tokens=90, **fields)


def test_a_swap_where_both_do_not_fit() -> None:
    room = roomy(1, {"a": 2}, {"a": 2}, start_s={"a": 12.0})
    (step,) = planned(site(model("a")), site(changed("a")), room).steps
    assert (step.way, step.after_stopping, step.interruption_s) == (Way.SWAP, ("a",), 12.0)
    (step,) = planned(site(model("a")), site(changed("a")), roomy(1, {"a": 2}, {"a": 2})).steps
    assert step.interruption_s is None


def test_one_that_leaves_goes_first_where_its_memory_is_needed() -> None:
    room = roomy(0, {"a": 2}, {"b": 2})
    made = planned(site(model("a")), site(model("b")), room)
    assert told(made) == ["start b (swap)", "stop a"]
    assert made.steps[0].after_stopping == ("a",)
    assert made.steps[0].interruption_s == 0  # nobody could ask for it yet


def test_one_that_stays_may_be_put_out() -> None:
    old = site(model("a", load="on_demand"))
    room = roomy(0, {"a": 2}, {"a": 2, "b": 2}, movable=("a",))
    made = planned(old, site(model("a", load="on_demand"), model("b")), room)
    assert told(made) == ["start b (beside)", "keep a"]
    assert made.steps[0].evicts == ("a",)


def test_what_cannot_fit_is_refused_with_the_figures() -> None:
    gib = 2**30
    room = roomy(0, {"a": 2 * gib}, {"a": 2 * gib, "b": 3 * gib})
    (refused,) = planned(site(model("a")), site(model("a"), model("b")), room).refused
    assert "5.0 GiB of host memory needed, 2.0 GiB of host memory granted" in refused
    room = roomy(0, {"a": 2 * gib}, {"b": 3 * gib})
    on_demand = model("b", load="on_demand", evals=EVALS)
    (refused,) = planned(site(model("a")), site(model("a"), on_demand), room).refused
    assert refused.startswith("b: needs 3.0 GiB of host memory")


NAMES = ("a", "b", "c", "d", "e")


def any_site(rng: random.Random) -> Site:
    models = [
        model(
            name,
            context_tokens=rng.choice((100, 90)),
            load=rng.choice(("startup", "on_demand")),
            pin=rng.random() < 0.2,
            aliases=(f"{name}x",) if rng.random() < 0.3 else (),
            snapshot=rng.choice((None, NOV, DEC)),
        )
        for name in rng.sample(NAMES, rng.randint(1, len(NAMES)))
    ]
    return site(*models)


def check_memory(made: Plan, room: Room) -> None:
    """Carried out in its order, a plan never takes more than there is."""
    free = dict(room.free)
    gone: set[str] = set()
    for step in made.steps:
        if step.way is Way.NONE:
            continue
        for one in (*step.after_stopping, *step.evicts):
            assert one not in gone
            gone.add(one)
            free = dict(plus(free, room.held.get(one, {})))
        for pool, amount in room.needs.get(step.model_id, {}).items():
            free[pool] = free.get(pool, 0) - amount
            assert free[pool] >= 0 or not amount


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_every_plan(first: int) -> None:
    for seed in range(first, first + 50):
        check_plan(seed)


def check_plan(seed: int) -> None:
    rng = random.Random(seed)
    old, new = any_site(rng), any_site(rng)
    awake = frozenset(one.id for one in old.models if rng.random() < 0.7)
    held = {name: rng.randint(0, 4) for name in awake}
    needs = {one.id: rng.randint(0, 4) for one in new.models}
    movable = tuple(name for name in sorted(awake) if rng.random() < 0.5)
    room = roomy(rng.randint(0, 8), held, needs, movable=movable)
    made = planned(old, new, room, awake)
    check_memory(made, room)
    if not made.refused:
        wanted = [step for step in made.steps if step.kind is not Kind.STOP]
        assert sorted(step.model_id for step in wanted) == sorted(one.id for one in new.models)
        was = [step.was for step in made.steps if step.was is not None]
        assert sorted(was) == sorted(one.id for one in old.models)
    for step in made.steps:
        check_step(step, old, new)
    # Nobody waits for one that is started beside, and the text says what would be done.
    assert all(step.interruption_s == 0 for step in made.of(Way.BESIDE))
    assert document(made)["text"] == lines(made)
    assert all(any(step.model_id in line for line in lines(made)) for step in made.steps)


def check_step(step: Step, old: Site, new: Site) -> None:
    before = {one.id: one for one in old.models}
    after = {one.id: one for one in new.models}
    if step.kind is Kind.STOP:
        assert step.model_id not in after
        return
    wanted = after[step.model_id]
    if step.kind is Kind.START:
        assert step.was is None
    else:
        assert step.was is not None
        assert before[step.was].config.name == wanted.config.name
    if step.kind in (Kind.KEEP, Kind.RENAME):
        assert step.was == step.model_id
        assert before[step.model_id].config == wanted.config
        assert step.way is Way.NONE
    if step.way is Way.NONE and step.kind in (Kind.START, Kind.REPLACE):
        assert wanted.load == "on_demand"


def test_a_plan_to_where_one_is_does_nothing() -> None:
    for seed in range(30):
        here = any_site(random.Random(seed))
        made = planned(here, here)
        assert not made.changes
        assert not made.at_once + made.later + made.refused
        assert lines(made)[-1] == "nothing to change"
