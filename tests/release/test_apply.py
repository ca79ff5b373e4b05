"""Applying a site: what is told, what is published, and what is undone when a step fails."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from serve.core.errors import Conflict, EngineUnavailable, ModelNotFound, SettingsError
from serve.release.apply import refuse_cut
from serve.release.handover import Handover
from serve.settings.load import load_files
from tests.release.conftest import WHO, Stage, World, call_of

CONFIGS = Path(__file__).parents[2] / "configs"


def stages(events: list[dict[str, Any]]) -> list[str]:
    told = [event["stage"] for event in events]
    return [one for one, before in zip(told, ["", *told], strict=False) if one != before]


async def test_a_changed_model_is_replaced_beside_the_other(stage: Stage) -> None:
    stage.write(["a: 200", "b: 100"])
    events = await stage.apply()
    assert stages(events) == [
        "parsed", "planned", "starting", "ready", "shifted", "draining", "done",
    ]  # fmt: skip
    assert events[-1]["outcome"] == "applied"
    assert await stage.who_answers("a") == 2
    assert await stage.who_answers("b") == 1
    assert stage.running() == {1, 2}
    assert stage.world.told == [
        "settle", "make a", "start a#2", "publish", "stop a#0",
    ]  # fmt: skip


async def test_the_same_file_again_does_nothing(stage: Stage) -> None:
    stage.write(["a: 200", "b: 100"])
    await stage.apply()
    told = len(stage.world.told)
    events = await stage.apply()
    assert events[-1]["text"] == "applied: nothing to change"
    assert stage.world.told[told:] == ["settle", "look"]
    assert stage.running() == {1, 2}


async def test_models_come_and_go_and_are_renamed(stage: Stage) -> None:
    stage.write(["b: 100", "c: 100"], entries={"b": "aliases: [bee]"})
    assert (await stage.apply())[-1]["outcome"] == "applied"
    assert await stage.who_answers("bee") == 1
    assert await stage.who_answers("c") == 2
    with pytest.raises(ModelNotFound):
        stage.pipeline.resolve("a", WHO)
    assert stage.running() == {1, 2}
    assert stage.world.units[1].adopted[-1].aliases == ("bee",)


async def test_requests_wait_where_only_one_engine_fits(tight: Stage) -> None:
    tight.write(["a: 200", "b: 100"])
    before = tight.pipeline.resolve("a", WHO)
    waited: list[int] = []
    events = []
    async for event in tight.release.apply(tight.site_file):
        events.append(dict(event))
        if event["stage"] == "waiting":
            served = tight.pipeline.resolve("a", WHO)
            assert isinstance(served.backend, Handover)
            asked = asyncio.create_task(tight.pipeline._claim(served, call_of(served), None))
            asked.add_done_callback(lambda task: waited.append(task.result()[2].unit.number))
            await asyncio.sleep(0)
    assert stages(events) == [
        "parsed", "planned", "waiting", "starting", "ready", "shifted", "done",
    ]  # fmt: skip
    assert "about 7 s" in next(one["text"] for one in events if one["stage"] == "waiting")
    await asyncio.sleep(0.01)
    assert waited == [2]
    # One that was given the old one before all this asks the new one.
    served, _, claim = await tight.pipeline._claim(before, call_of(before), None)
    assert (served.fingerprint, claim.unit.number) == ("fp 200", 2)  # type: ignore[attr-defined]


async def test_who_waits_is_answered_by_the_old_one_after_a_roll_back(tight: Stage) -> None:
    tight.write(["a: 200", "b: 100"])
    tight.world.fail_at = 3  # settle, make, start
    asked: asyncio.Task[Any] | None = None
    async for event in tight.release.apply(tight.site_file):
        if event["stage"] == "waiting":
            served = tight.pipeline.resolve("a", WHO)
            asked = asyncio.create_task(tight.pipeline._claim(served, call_of(served), None))
            await asyncio.sleep(0)
    assert event["outcome"] == "rolled_back"
    assert asked is not None
    served, _, claim = await asked
    assert (served.fingerprint, claim.unit.number) == ("fp 100", 0)


CHANGES = {
    "replace both": (["a: 200", "b: 200"], {}),
    "replace and start": (["a: 200", "b: 100", "c: 100"], {}),
    "replace, rename, stop": (["a: 200"], {"a": "aliases: [default]"}),
    "start alone": (["c: 100"], {}),
    "another snapshot": (["a: 200", "b: 100"], {"a": "snapshot: 2026-11-01"}),
}


@pytest.mark.parametrize("models", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("roomy", [True, False], ids=["roomy", "tight"])
async def test_a_failure_at_any_step_leaves_what_ran(
    tmp_path: Path, models: tuple[list[str], dict[str, str]], roomy: bool
) -> None:
    failures = 0
    for fail_at in range(1, 40):
        root = tmp_path / str(fail_at)
        root.mkdir()
        needs = {"a": {"host": 2}, "b": {"host": 1}}
        world = World() if roomy else World(needs=needs, capacity={"host": 3})
        stage = Stage(root, world)
        before = [(one.id, one.fingerprint) for one in stage.pipeline.served]
        stage.write(models[0], entries=models[1])
        world.fail_at = fail_at
        try:
            ended = (await stage.apply())[-1]
        except Exception as error:
            assert "failed" in str(error)  # before anything was done
            ended = {"outcome": "rolled_back", "text": "because settle failed"}
        if ended["outcome"] == "applied":
            break
        failures += 1
        assert "failed" in ended["text"]
        assert [(one.id, one.fingerprint) for one in stage.pipeline.served] == before
        assert await stage.who_answers("a") == 0
        assert await stage.who_answers("b") == 1
        assert stage.running() == {0, 1}
        assert not stage.settled
        # And it can be applied now that nothing fails.
        assert (await stage.apply())[-1]["outcome"] == "applied"
        assert len(stage.running()) == len(models[0])
    assert failures >= 4


async def test_a_file_cut_at_any_byte_changes_nothing(stage: Stage) -> None:
    whole = stage.write(["a: 100", "b: 100"], more="limits: {choices: 4}").encode()
    assert (await stage.apply())[-1]["outcome"] == "applied"
    told = [one for one in stage.world.told if one != "settle"]
    for end in range(len(whole)):
        stage.site_file.write_bytes(whole[:end])
        with pytest.raises(SettingsError, match=r"site\.yaml"):
            await stage.apply()
        with pytest.raises(SettingsError, match=r"site\.yaml"):
            await stage.release.plan(stage.site_file)
    model = stage.root / "models" / "b.yaml"
    stage.site_file.write_bytes(whole)
    kept = model.read_bytes()
    for end in range(len(kept)):
        model.write_bytes(kept[:end])
        with pytest.raises(SettingsError, match=r"b\.yaml"):
            await stage.apply()
    assert stage.running() == {0, 1}
    assert [one for one in stage.world.told if one != "settle"] == told
    assert await stage.who_answers("b") == 1


def test_shipped_files_cut_at_any_byte_are_refused() -> None:
    path = CONFIGS / "sites" / "quickstart.yaml"
    _, texts = load_files(path, env={})
    assert len(texts) == 2
    for cut, running in texts.items():
        # Another than the one that runs: longer, and unlike it from its first byte on.
        for whole in (running, b"# changed\n" + running):
            for end in range(len(whole.rstrip())):
                given = {**texts, cut: whole[:end]}
                with pytest.raises(SettingsError, match=cut.name):
                    for file, text in load_files(path, env={}, given=given)[1].items():
                        refuse_cut(file, text, texts[file])


def test_a_file_that_says_that_it_is_whole_is_taken_for_whole() -> None:
    path = Path("site.yaml")
    refuse_cut(path, b"models: [b]\nx: 1\n...\n", b"models: [a]\n...\n")
    with pytest.raises(SettingsError, match=r"ends with a line `\.\.\.`, and this one does not"):
        refuse_cut(path, b"models: [b]\nx: 1\n", b"models: [a]\n...\n")
    refuse_cut(path, b"models: [a]\n", None)
    refuse_cut(path, b"models: [a]\n...\n", b"models: [a]\n...\n# more\n")
    refuse_cut(path, b"models: [a]\n...", None)
    refuse_cut(path, b"models: [b]\n", b"models: [a]\nx: 1\n")
    refuse_cut(path, b"models: [a]\n", b"models: [a]\n")
    with pytest.raises(SettingsError, match=r"beginning of the file that runs.*`\.\.\.`"):
        refuse_cut(path, b"models: [a]\n", b"models: [a]\nx: 1\n")
    with pytest.raises(SettingsError, match="its last line does not end"):
        refuse_cut(path, b"models: [a]", None)


async def test_what_only_a_restart_changes_is_refused_by_name(stage: Stage) -> None:
    stage.write(["a: 200"], more="listen: {port: 9000}\nengine_defaults: {kind: fake}")
    with pytest.raises(SettingsError) as refused:
        await stage.apply()
    lines = refused.value.message.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["listen.port", "engine_defaults.kind"]
    assert all("restart the server" in line for line in lines)
    assert stage.running() == {0, 1}


async def test_limits_count_at_once_and_standbys_later(stage: Stage) -> None:
    stage.write(["a: 100", "b: 100"], more="limits: {choices: 3}\nengine_defaults: {standby: 2}")
    for _ in range(2):  # what waits for a restart is told of until then
        told = [event["text"] for event in await stage.apply()]
        assert any("standby: 0 → 2 (when the server is restarted)" in text for text in told)
    assert stage.settled[0].limits.choices == 3
    assert stage.release.site.engine_defaults.standby == 0


async def test_one_apply_at_a_time(stage: Stage) -> None:
    stage.write(["a: 200", "b: 100"])
    first = stage.release.apply(stage.site_file)
    await anext(first)
    with pytest.raises(Conflict, match=r"site\.yaml is being applied"):
        await anext(stage.release.apply(stage.site_file))
    await stage.release.keep_up()  # waits for its turn
    assert [event async for event in first][-1]["outcome"] == "applied"
    assert await stage.who_answers("a") == 2


async def test_nobody_has_to_listen(stage: Stage) -> None:
    stage.write(["a: 200", "b: 100"])
    listening = stage.release.apply(stage.site_file)
    await anext(listening)
    await listening.aclose()
    await stage.release.keep_up()
    assert await stage.who_answers("a") == 2


async def test_closing_stops_what_was_started_and_starts_nothing(tight: Stage) -> None:
    tight.write(["a: 200", "b: 100"])
    async for event in tight.release.apply(tight.site_file):
        if event["stage"] == "waiting":
            break
    await tight.release.close()
    assert not any(one.startswith("start a#0") for one in tight.world.told)
    assert tight.running() <= {0, 1}


async def test_what_was_applied_is_kept_and_what_was_not_is_not(stage: Stage) -> None:
    text = stage.write(["a: 200", "b: 100"])
    await stage.apply()
    kept = stage.archive.last_good()
    assert kept is not None
    assert kept.texts[stage.site_file] == text.encode()
    assert {path.name for path in kept.texts} == {"site.yaml", "a.yaml", "b.yaml"}
    state = stage.release.state()
    assert state["digest"] == kept.digest
    assert state["last_apply"]["outcome"] == "applied"
    stage.write(["a: 300", "b: 100"])
    stage.world.fail_at = stage.world.calls + 3
    await stage.apply()
    assert stage.archive.last_good() == kept
    assert stage.release.state()["last_apply"]["outcome"] == "rolled_back"
    orjson.dumps(stage.release.state())


async def test_a_bad_file_is_logged_and_nothing_else(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.site_file.write_text("site: t\nmodels: {}\n")
    await stage.release.keep_up()
    assert "models" in caplog.text
    assert stage.running() == {0, 1}


async def test_a_handover_is_bounded(stage: Stage) -> None:
    handover = Handover(stage.world.units[0], waiting_max=1, retry_after_s=9.0)
    call = call_of(stage.pipeline.served[0])
    waiting = asyncio.create_task(handover.claim(call, 0.02))
    await asyncio.sleep(0)
    with pytest.raises(Exception, match=r"limits\.waiting_requests"):
        await handover.claim(call, 1.0)
    with pytest.raises(EngineUnavailable, match="being replaced") as refused:
        await waiting
    assert refused.value.retry_after_s == 9.0
    assert handover.waiting == 0
    assert (handover.status.state, handover.client) == ("starting", None)
