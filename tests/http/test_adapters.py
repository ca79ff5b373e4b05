"""Adapters that come and go while a server runs, over a fake engine."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.applied import Applied
from tests.conftest import Inhouse, start_gateway
from tests.peft import write_adapter

CHAT = "/v1/chat/completions"
ANY = {"any.thing": (3, 5)}
ENTRY = "adapters: [{name: law, path: law}], adapter_dir: more"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """A server of one model with one listed adapter; tests leave its folder empty."""
    root = tmp_path_factory.mktemp("adapters")
    write_adapter(root / "law", ANY)
    one = Applied(root, entry=ENTRY)
    yield one
    one.close()


@pytest.fixture
def more(running: Applied) -> Iterator[Path]:
    """The folder, emptied afterwards."""
    place = running.root / "more"
    place.mkdir(exist_ok=True)
    yield place
    for folder in place.iterdir():
        folder.rename(running.root / f"away-{len(list(running.root.iterdir()))}")
    rescan(running)


def rescan(running: Applied) -> dict[str, Any]:
    answer = running.admin.post("/admin/v1/adapters/rescan")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ask(running: Applied, model: str, text: str = "fake:tokens=2", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}]} | more
    return running.gateway.client.post(CHAT, json=body)


def test_one_is_served_once_it_lies_there(running: Applied, more: Path) -> None:
    assert ask(running, "fake:tone").status_code == 404
    write_adapter(more / "tone", ANY)
    pids = running.gateway.engine_pids()
    told = rescan(running)
    assert told["changes"] == {"added": ["fake:tone"], "changed": [], "removed": []}
    assert [one["id"] for one in told["data"][0]["adapters"]] == ["fake:law", "fake:tone"]
    answer = ask(running, "default:tone")
    assert (answer.status_code, answer.json()["model"]) == (200, "fake:tone")
    assert ask(running, "fake:law").status_code == 200
    assert running.gateway.engine_pids() == pids


def test_one_that_was_edited_is_another(running: Applied, more: Path) -> None:
    write_adapter(more / "tone", ANY)
    rescan(running)
    before = ask(running, "fake:tone").json()["system_fingerprint"]
    write_adapter(more / "tone", ANY, scale=2.0)
    assert ask(running, "fake:tone").json()["system_fingerprint"] == before
    assert rescan(running)["changes"]["changed"] == ["fake:tone"]
    assert ask(running, "fake:tone").json()["system_fingerprint"] != before


def test_wrong_ones_are_refused_with_the_reason_and_harm_no_other(
    running: Applied, more: Path
) -> None:
    write_adapter(more / "good", ANY)
    write_adapter(more / "huge", ANY, rank=64)
    write_adapter(more / "half", ANY)
    (more / "half" / "adapter_model.safetensors").unlink()
    write_adapter(more / "coded", ANY)
    (more / "coded" / "run.py").write_text("")
    told = rescan(running)
    assert told["changes"]["added"] == ["fake:good"]
    reasons = {Path(one["path"]).name: one["reason"] for one in told["data"][0]["refused"]}
    assert set(reasons) == {"huge", "half", "coded"}
    assert "rank 64 is above adapter_rank_max 16" in reasons["huge"]
    assert "adapter_model.safetensors is missing" in reasons["half"]
    assert "code beside weights" in reasons["coded"]
    assert ask(running, "fake:good").status_code == 200
    assert ask(running, "fake:huge").status_code == 404
    # Looking later tells the same, without another rescan.
    assert running.admin.get("/admin/v1/adapters").json()["data"] == told["data"]


def test_requests_in_hand_of_one_that_is_taken_away_finish(running: Applied, more: Path) -> None:
    write_adapter(more / "tone", ANY)
    rescan(running)
    answers: list[httpx.Response] = []

    def hold() -> None:
        answers.append(ask(running, "fake:tone", "fake:prefill=1 fake:tokens=3", stream=True))

    holder = threading.Thread(target=hold)
    holder.start()
    running.until(lambda: in_hand(running, "fake:tone") == 1)
    (more / "tone").rename(running.root / "taken")
    assert rescan(running)["changes"]["removed"] == ["fake:tone"]
    assert ask(running, "fake:tone").status_code == 404
    assert not answers
    holder.join(20)
    assert answers[0].status_code == 200
    assert '"model":"fake:tone"' in answers[0].text
    assert answers[0].text.endswith("data: [DONE]\n\n")


def in_hand(running: Applied, name: str) -> int:
    (model,) = running.admin.get("/admin/v1/adapters").json()["data"]
    return sum(one["in_hand"] for one in model["adapters"] if one["id"] == name)


def test_a_listed_one_that_went_wrong_changes_nothing(running: Applied, more: Path) -> None:
    write_adapter(more / "tone", ANY)
    rescan(running)
    law = running.root / "law"
    law.rename(running.root / "law-away")
    (more / "tone").rename(more / "other")
    answer = running.admin.post("/admin/v1/adapters/rescan")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_adapter"
    assert "law: no adapter here" in error["message"]
    assert "law: no adapter here" in running.apply()[-1]["error"]["message"]
    for name in ("fake:law", "fake:tone"):
        assert ask(running, name).status_code == 200
    (running.root / "law-away").rename(law)
    assert rescan(running)["changes"] == {
        "added": ["fake:other"], "changed": [], "removed": ["fake:tone"]
    }  # fmt: skip


def test_every_apply_looks_too(running: Applied, more: Path) -> None:
    write_adapter(more / "tone", ANY)
    write_adapter(more / "huge", ANY, rank=64)
    told = running.apply()
    assert told[-1]["text"] == "applied: nothing to change"
    first, second = [one["text"] for one in told if one["stage"] == "adapters"]
    assert first == "adapter fake:tone is new"
    assert second.startswith(f"not served: {more}/huge: rank 64 is above")
    assert ask(running, "fake:tone").status_code == 200
    # A changed model comes with its adapters.
    running.write(1100, entry=ENTRY)
    (more / "tone").rename(more / "other")
    told = running.apply()
    texts = [one["text"] for one in told if one["stage"] == "adapters"]
    assert texts[:2] == ["adapter fake:other is new", "adapter fake:tone is gone"]
    assert ask(running, "fake:other").json()["model"] == "fake:other"


def test_a_signal_looks_too(running: Applied, more: Path) -> None:
    write_adapter(more / "tone", ANY)
    assert ask(running, "fake:tone").status_code == 404, "nobody has looked yet"
    running.gateway.process.send_signal(signal.SIGHUP)
    running.until(lambda: ask(running, "fake:tone").status_code == 200)
    assert ask(running, "fake:tone").json()["model"] == "fake:tone"


def test_the_command_lists_and_looks_again(running: Applied, more: Path, inhouse: Inhouse) -> None:
    write_adapter(more / "tone-2026-11-05", ANY)
    write_adapter(more / "huge", ANY, rank=64)
    words = ("adapters", "--site", str(running.site_file))
    listed = inhouse(*words)
    assert listed.code == 0, listed.err
    assert len(listed.out.splitlines()) == 2
    found = inhouse(*words, "--rescan")
    assert found.code == 0, found.err
    head, law, tone, refused, last = found.out.splitlines()
    assert head.split() == ["adapter", "also", "rank", "digest", "in", "hand"]
    assert law.split()[0] == "fake:law"
    assert tone.split()[:1] == ["fake:tone-2026-11-05"]
    assert "fake:tone, " in tone
    assert refused.startswith(f"not served: {more}/huge: rank 64")
    assert last == "looked again: 1 added"
    assert inhouse(*words, "--rescan").out.endswith("looked again: nothing has changed\n")
    as_json = json.loads(inhouse(*words, "--json").out)
    assert as_json["data"][0]["refused"][0]["path"] == f"{more}/huge"


def test_they_survive_a_restart_of_engine_and_server(running: Applied, more: Path) -> None:
    write_adapter(more / "tone", ANY)
    rescan(running)
    before = ask(running, "fake:tone").json()["system_fingerprint"]
    order = running.admin.post("/admin/v1/models/fake/restart", json={"wait_s": 20})
    assert order.json()["order"] is None
    assert ask(running, "fake:tone").json()["system_fingerprint"] == before
    assert running.gateway.stop() == 0
    words = ("serve", "--site", str(running.site_file), "--starter-key")
    running.gateway = start_gateway(running.root, *words)
    assert ask(running, "fake:tone").json()["system_fingerprint"] == before
