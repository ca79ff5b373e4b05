"""Adapters found anew: what is published, what is told, and that an apply is not crossed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from serve.core.errors import ModelNotFound, SettingsError
from serve.release.adapters import Adapters, difference
from serve.served import Served
from tests.release.conftest import WHO, Stage


def carrying(base: Served, *digests: str, refused: str | None = None) -> Served:
    """The model with an adapter for each `name=digest`."""
    adapters = []
    for one in digests:
        name, _, digest = one.partition("=")
        names = (f"{base.id}:{name}",)
        adapters.append(replace(base, names=names, about={"digest": digest}, adapters=()))
    told = {} if refused is None else {Path("/more/x"): refused}
    return replace(base, adapters=tuple(adapters), refused_adapters=told)


def test_what_has_become_of_each_is_told(stage: Stage) -> None:
    a, b = stage.pipeline.served
    before = [carrying(a, "same=1", "edited=1", "gone=1"), carrying(b, "same=1")]
    after = [
        carrying(a, "same=1", "edited=2", "new=1", refused="/more/x: too large"),
        carrying(b, "same=1", refused="/more/x: too large"),
    ]
    told = difference(before, after)
    assert told.plain() == {"added": ("a:new",), "changed": ("a:edited",), "removed": ("a:gone",)}
    assert told.lines() == [
        "adapter a:new is new",
        "adapter a:edited has changed",
        "adapter a:gone is gone",
        "not served: /more/x: too large",
    ]
    assert difference(after, after).plain() == {"added": (), "changed": (), "removed": ()}


async def test_a_rescan_publishes_what_was_found(stage: Stage) -> None:
    def look(served: Sequence[Served]) -> tuple[Served, ...]:
        a, b = served
        return carrying(a, "law=1"), b

    told = await Adapters(stage.pipeline, look).rescan()
    assert told == {"added": ("a:law",), "changed": (), "removed": ()}
    assert stage.pipeline.resolve("a:law", WHO).about == {"digest": "1"}
    assert await stage.who_answers("a") == 0


async def test_one_that_is_listed_and_wrong_changes_nothing(stage: Stage) -> None:
    def look(served: Sequence[Served]) -> tuple[Served, ...]:
        raise SettingsError("/law: no adapter here")

    before = stage.pipeline.served
    with pytest.raises(SettingsError, match="/law"):
        await Adapters(stage.pipeline, look).rescan()
    assert stage.pipeline.served is before
    assert not stage.pipeline.changing.locked()


async def test_an_apply_that_changes_nothing_else_looks_for_adapters(stage: Stage) -> None:
    stage.world.found = lambda served: (carrying(served[0], "law=1", refused="x"), *served[1:])
    events = await stage.apply()
    assert [one["text"] for one in events if one["stage"] == "adapters"] == [
        "adapter a:law is new", "not served: x",
    ]  # fmt: skip
    assert events[-1]["outcome"] == "applied"
    assert stage.pipeline.resolve("a:law", WHO)
    assert stage.running() == {0, 1}


async def test_a_rescan_waits_for_an_apply_and_sees_its_models(stage: Stage) -> None:
    stage.write(["b: 200", "c: 100"])
    looked: list[list[str]] = []

    def look(served: Sequence[Served]) -> tuple[Served, ...]:
        looked.append([one.id for one in served])
        return tuple(served)

    applying = asyncio.create_task(stage.apply())
    while not stage.pipeline.changing.locked():  # noqa: ASYNC110 - step by step
        await asyncio.sleep(0)
    await Adapters(stage.pipeline, look).rescan()
    assert (await applying)[-1]["outcome"] == "applied"
    assert looked == [["b", "c"]]
    with pytest.raises(ModelNotFound):
        stage.pipeline.resolve("a", WHO)
