"""Names, snapshots, routes and adapters as clients meet them, over fake engines."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import Gateway, start_gateway
from tests.peft import write_adapter

CHAT = "/v1/chat/completions"
SITE = """\
site: t
root: .
var_dir: .
model_files: models
engine_defaults: {kind: fake}
models:
  - use: fake
    snapshot: 2026-11-01
    aliases: [stable]
    deprecated: 2026-12-01
    sunset: 2027-01-01
    replaced_by: fake
  - use: fake
    snapshot: 2026-11-20
    adapters: [{name: law, path: law, snapshot: 2026-11-21}]
    adapter_dir: more
routes:
  - name: auto
    rules:
      - {name: long, model: stable, when: {prompt_chars_min: 100}}
      - {name: team, model: "fake:law", when: {metadata: {team: law}}}
    otherwise: fake
"""


def write_site(folder: Path) -> Path:
    (folder / "models").mkdir()
    (folder / "models" / "fake.yaml").write_text(
        "name: fake\nsource: {path: none}\ncontext_tokens: 1000\n"
    )
    write_adapter(folder / "law", {"any.thing": (3, 5)})
    write_adapter(folder / "more" / "tone", {"any.thing": (3, 5)})
    write_adapter(folder / "more" / "huge", {"any.thing": (3, 5)}, rank=64)
    site = folder / "site.yaml"
    site.write_text(SITE)
    return site


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("portfolio")
    gateway = start_gateway(folder, "serve", "--site", str(write_site(folder)), "--starter-key")
    yield gateway
    assert gateway.stop() == 0


def ask(gateway: Gateway, model: str, text: str = "fake:tokens=2", **fields: Any) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": text}]} | fields
    return gateway.client.post(CHAT, json=body)


NAMES = {
    "fake-2026-11-01", "stable", "fake-2026-11-20", "fake",
    "fake-2026-11-20:law-2026-11-21", "fake-2026-11-20:law", "fake:law-2026-11-21", "fake:law",
    "fake-2026-11-20:tone", "fake:tone",
}  # fmt: skip


def test_every_name_is_listed_with_what_is_known_of_it(portfolio: Gateway) -> None:
    data = portfolio.client.get("/v1/models").json()["data"]
    by_name = {one["id"]: one for one in data}
    assert set(by_name) == NAMES | {"auto"}
    assert len(data) == len(by_name)
    for one in data:
        assert set(one) == {"id", "object", "created", "owned_by", "inhouse"}
    assert by_name["stable"]["inhouse"] == {
        "snapshot": "fake-2026-11-01", "aliases": ["stable"], "task": "generate",
        "context_tokens": 1000, "digest": None, "deprecated": "2026-12-01",
        "sunset": "2027-01-01", "replaced_by": "fake",
    }  # fmt: skip
    law = by_name["fake:law"]["inhouse"]
    assert law["snapshot"] == "fake-2026-11-20:law-2026-11-21"
    assert law["base"] == "fake-2026-11-20"
    assert law["digest"].startswith("sha256:")
    assert by_name["auto"]["inhouse"]["route"]["otherwise"] == "fake"
    for name in ("fake:law", "auto"):
        assert portfolio.client.get(f"/v1/models/{name}").json() == by_name[name]


def test_openai_s_client_takes_it(portfolio: Gateway) -> None:
    client = openai.OpenAI(base_url=f"{portfolio.url}/v1", api_key=portfolio.key, max_retries=0)
    with client:
        assert {one.id for one in client.models.list()} == NAMES | {"auto"}
        one = client.models.retrieve("fake-2026-11-01")
        assert one.created == 1_793_491_200
        assert one.owned_by == "inhouse"
        assert one.model_extra is not None
        assert one.model_extra["inhouse"]["deprecated"] == "2026-12-01"


@pytest.mark.parametrize(
    ("name", "answered_by"),
    [
        ("fake", "fake-2026-11-20"),
        ("stable", "fake-2026-11-01"),
        ("fake-2026-11-01", "fake-2026-11-01"),
        ("fake:law", "fake-2026-11-20:law-2026-11-21"),
        ("fake-2026-11-20:tone", "fake-2026-11-20:tone"),
    ],
)
def test_an_answer_says_which_snapshot_gave_it(
    portfolio: Gateway, name: str, answered_by: str
) -> None:
    answer = ask(portfolio, name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answered_by
    streamed = ask(portfolio, name, stream=True).text
    assert f'"model":"{answered_by}"' in streamed
    assert "[DONE]" in streamed
    assert answer.json()["system_fingerprint"] in streamed


def test_fingerprints_tell_snapshots_and_adapters_apart(portfolio: Gateway) -> None:
    names = ("fake", "fake:law", "fake:tone")
    prints = {name: ask(portfolio, name).json()["system_fingerprint"] for name in names}
    # Both snapshots are fakes of one configuration; both adapters are of the same numbers.
    assert prints["fake"] != prints["fake:law"]
    assert prints["fake:law"] == prints["fake:tone"]


@pytest.mark.parametrize("stream", [False, True])
def test_answers_of_a_deprecated_model_say_so(portfolio: Gateway, stream: bool) -> None:
    answer = ask(portfolio, "stable", stream=stream)
    assert answer.headers["deprecation"] == "@1796083200"
    assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"
    assert "deprecation" not in ask(portfolio, "fake", stream=stream).headers


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "auto/otherwise -> fake-2026-11-20"),
        ({"text": "x" * 100}, "auto/long -> fake-2026-11-01"),
        ({"metadata": {"team": "law"}}, "auto/team -> fake-2026-11-20:law-2026-11-21"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_route_says_what_it_chose(
    portfolio: Gateway, fields: dict[str, Any], said: str, stream: bool
) -> None:
    answer = ask(portfolio, "auto", **({"text": "hi"} | fields), stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-inhouse-route"] == said
    assert f'"model":"{said.split(" -> ")[1]}"' in answer.text
    assert "x-inhouse-route" not in ask(portfolio, "fake").headers


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("fake-2026-11-2", "fake-2026-11-2"),
        ("fake:laww", "fake:law"),
        ("stable:law", "stable"),
        ("fake:huge", "fake:"),
        ("gpt-9", None),
    ],
)
def test_an_unknown_model_is_refused_with_what_there_is(
    portfolio: Gateway, name: str, near: str | None
) -> None:
    for refused in (ask(portfolio, name), portfolio.client.get(f"/v1/models/{name}")):
        assert refused.status_code == 404
        error = refused.json()["error"]
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"
        for there in NAMES | {"auto"}:
            assert there in error["message"]
        assert ("Did you mean" in error["message"]) == (near is not None)
        if near is not None:
            assert f"Did you mean '{near}" in error["message"]


def test_health_counts_engines_not_names(portfolio: Gateway) -> None:
    models = portfolio.client.get("/health/ready").json()["models"]
    assert set(models) == {"fake-2026-11-01", "fake-2026-11-20"}


def test_an_adapter_survives_its_engine(portfolio: Gateway) -> None:
    for engine in portfolio.engine_pids():
        os.kill(engine, signal.SIGKILL)
    answer = ask(portfolio, "fake:law")
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "fake-2026-11-20:law-2026-11-21"


def test_one_that_is_listed_and_wrong_stops_the_start(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    write_adapter(tmp_path / "law", {"any.thing": (3, 5)}, rank=32)
    with pytest.raises(AssertionError, match="rank 32 is above adapter_rank_max 16"):
        start_gateway(tmp_path, "serve", "--site", str(site), "--starter-key")
