"""`/admin/v1/*`: what is told, what is refused, and that looking wakes nothing."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from serve.admission.context import ContextGuard
from serve.admission.gate import Gate
from serve.api.admin.routes import Desk
from serve.core.call import Call
from serve.core.clock import SystemClock
from serve.core.errors import EngineUnavailable, SettingsError
from serve.engines.backend import Claim
from serve.engines.client import EngineClient
from serve.engines.states import State
from serve.engines.status import EngineStatus
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.served import Served
from serve.settings.model import ModelConfig, ServedModel, Source
from tests.api.admin.keeper import Keeper


class Watched:
    """A backend that says whether anybody asked it for an engine."""

    def __init__(self, status: EngineStatus) -> None:
        self.status = status
        self.client: EngineClient | None = None
        self.claims = 0

    def subscribe(self, callback: Callable[[], None]) -> None:
        del callback

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        self.claims += 1
        raise EngineUnavailable("asked")


class Adapters:
    """Finds a new one at each look, unless something is wrong."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.looks = 0

    async def rescan(self) -> Mapping[str, Any]:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return {"added": [f"a:n{self.looks}"], "changed": [], "removed": []}


class Releases:
    """Two steps."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.late: Exception | None = None
        self.asked: list[Path] = []
        self.applied: list[Path] = []
        self.applying: str | None = None

    def state(self) -> Mapping[str, Any]:
        return {"digest": "sha256:1", "applying": self.applying}

    async def plan(self, site_file: Path) -> Mapping[str, Any]:
        self.asked.append(site_file)
        if self.failure is not None:
            raise self.failure
        return {"text": [f"nothing to do for {site_file}"]}

    async def apply(self, site_file: Path) -> AsyncIterator[Mapping[str, Any]]:
        self.asked.append(site_file)
        if self.failure is not None:
            raise self.failure
        yield {"text": "begun"}
        if self.late is not None:
            raise self.late
        self.applied.append(site_file)
        yield {"text": "done", "outcome": "applied"}


def served(name: str, state: State, *adapters: str) -> Served:
    plain = name.replace(":", "-")
    config = ModelConfig(
        name=plain, source=Source(path=Path("none")), context_tokens=100,
        adapter_dir=Path("/more") if adapters else None,
    )  # fmt: skip
    status = EngineStatus(name, state, 7, 3, 0.0, 2, "its own words", 1.25)
    one = Served(
        model=ServedModel(config=config, pin=True),
        backend=Watched(status),
        guard=ContextGuard(100, Path("none")),
        fingerprint="f",
        created_s=0,
        names=(name, f"{name}-alias"),
        engine_model=name,
        about={"digest": "sha256:2", "rank": 4},
    )
    poets = (served(f"{name}:{adapter}", state) for adapter in adapters)
    refused = {Path("/more/huge"): "/more/huge: rank 64 is too large"} if adapters else {}
    return replace(one, adapters=tuple(poets), refused_adapters=refused)


class Site:
    """A desk over pretended parts, and a client of it."""

    def __init__(self) -> None:
        self.keeper, self.releases, self.adapters = Keeper(go=True), Releases(), Adapters()
        models = (served("a", State.READY, "poet"), served("b", State.SLEEPING))
        self.pipeline = Pipeline(models, Gate(8), Meter(Metrics("1"), SystemClock()), 1)
        self.desk = Desk(self.pipeline, self.keeper, self.adapters, self.releases, SystemClock())
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.desk.app), base_url="http://localhost"
        )

    def claims(self) -> int:
        found = 0
        for one in self.pipeline.served:
            assert isinstance(one.backend, Watched)
            found += one.backend.claims
        return found


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    await site.client.aclose()
    await site.desk.close()


def refused(answer: httpx.Response, status: int, *said: str, param: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    for words in said:
        assert words in error["message"]


async def test_models_are_told_and_none_is_woken(site: Site) -> None:
    answer = (await site.client.get("/admin/v1/models")).json()
    first, second = answer["data"]
    assert answer["memory"] == {"capacity_bytes": {"host": 2}, "held_bytes": {"host": 1}}
    assert (first["id"], first["aliases"], first["adapters"]) == ("a", ["a-alias"], ["a:poet"])
    assert (first["state"], second["state"]) == ("ready", "sleeping")
    assert first["last_error"] == "its own words"
    assert first["next_start_in_s"] == 1.25
    assert (first["generation"], first["restarts"], first["pinned"]) == (3, 2, True)
    assert first["memory_bytes"] == {"host": 123}
    assert (first["waiting"], first["last_swap_s"]) == (4, 1.5)
    assert first["digest"] == "sha256:2"
    assert (first["order"], first["last_order"]) == (None, None)
    assert site.claims() == 0


async def test_requests_of_an_adapter_count_as_its_models(site: Site) -> None:
    site.pipeline.gate.enter("a")
    site.pipeline.gate.enter("a:poet")
    assert (await site.client.get("/admin/v1/models/a-alias")).json()["in_hand"] == 2


@pytest.mark.parametrize("kind", ["load", "sleep", "drain", "restart"])
async def test_an_order_is_carried_out_and_answered_with_the_state(site: Site, kind: str) -> None:
    answer = await site.client.post(f"/admin/v1/models/b-alias/{kind}", json={"wait_s": 5})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["id"], told["state"], told["order"]) == ("b", "sleeping", None)
    assert told["last_order"]["kind"] == kind
    assert site.keeper.done == [(kind, "b")]
    assert site.claims() == 0


async def test_an_order_that_takes_time_is_under_way(site: Site) -> None:
    site.keeper.go.clear()
    answer = await site.client.post("/admin/v1/models/a/drain")
    assert answer.status_code == 202
    assert answer.json()["order"]["kind"] == "drain"
    refused(await site.client.post("/admin/v1/models/a/load"), 409, "order to drain")
    site.keeper.go.set()
    assert (await site.client.post("/admin/v1/models/a/drain?", json={"wait_s": 5})).is_success
    assert site.keeper.done == [("drain", "a")]


async def test_an_order_that_fails_says_why_then_and_later(site: Site) -> None:
    site.keeper.failure = EngineUnavailable("a could not be started: no weights")
    failed = await site.client.post("/admin/v1/models/a/load", json={"wait_s": 5})
    refused(failed, 503, "no weights")
    told = (await site.client.get("/admin/v1/models/a")).json()
    assert told["last_order"]["error"] == "a could not be started: no weights"


async def test_what_is_wrong_with_an_order_is_named(site: Site) -> None:
    post = site.client.post
    refused(await post("/admin/v1/models/none/load"), 404, "'none'", "a", "b", param="model")
    refused(await post("/admin/v1/models/a:poet/load"), 400, "with its model, a", param="model")
    refused(await post("/admin/v1/models/a/explode"), 404, "Unknown address")
    refused(await site.client.get("/admin/v1/models/a/load"), 405, "takes POST")
    refused(await post("/admin/v1/models/a/load", content=b"{"), 400, "not valid JSON")
    refused(await post("/admin/v1/models/a/load", content=b"[]"), 400, "not a JSON object")
    refused(await post("/admin/v1/models/a/load", json={"wait": 1}), 400, "wait_s", param="wait")
    refused(
        await post("/admin/v1/models/a/load", json={"wait_s": "1"}), 400, "wait_s", param="wait_s"
    )
    refused(
        await post("/admin/v1/models/a/load", json={"wait_s": -1}), 400, "wait_s", param="wait_s"
    )
    assert site.keeper.done == []


async def test_a_site_file_is_named_whole(site: Site) -> None:
    for path in ("/admin/v1/plan", "/admin/v1/apply"):
        refused(await site.client.post(path), 400, "site_file", param="site_file")
        refused(
            await site.client.post(path, json={"site_file": "a.yaml"}),
            400, "relative", param="site_file",
        )  # fmt: skip
        refused(
            await site.client.post(path, json={"site_file": "/a", "force": True}),
            400, "force", param="force",
        )  # fmt: skip
    assert site.releases.asked == []


async def test_a_wrong_site_is_refused_in_full(site: Site) -> None:
    site.releases.failure = SettingsError("/a.yaml:3: models: no model file")
    for path in ("/admin/v1/plan", "/admin/v1/apply"):
        answer = await site.client.post(path, json={"site_file": "/a.yaml"})
        refused(answer, 400, "/a.yaml:3: models", param="site_file")
    assert site.releases.asked == [Path("/a.yaml"), Path("/a.yaml")]
    assert site.releases.applied == []


async def test_plan_and_release_are_told(site: Site) -> None:
    told = await site.client.post("/admin/v1/plan", json={"site_file": "/a.yaml"})
    assert told.json() == {"text": ["nothing to do for /a.yaml"]}
    assert (await site.client.get("/admin/v1/release")).json()["digest"] == "sha256:1"


async def test_apply_tells_each_step(site: Site) -> None:
    answer = await site.client.post("/admin/v1/apply", json={"site_file": "/b.yaml"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    events = [orjson.loads(line) for line in answer.text.splitlines()]
    assert [event["text"] for event in events] == ["begun", "done"]
    assert events[-1]["outcome"] == "applied"


async def test_what_ends_an_apply_early_is_its_last_line(site: Site) -> None:
    site.releases.late = SettingsError("b needs 9.0 GiB of host memory")
    answer = await site.client.post("/admin/v1/apply", json={"site_file": "/b.yaml"})
    assert answer.status_code == 200
    first, last = (orjson.loads(line) for line in answer.text.splitlines())
    assert first == {"text": "begun"}
    assert "9.0 GiB" in last["error"]["message"]
    site.releases.late = ValueError("secret")
    answer = await site.client.post("/admin/v1/apply", json={"site_file": "/b.yaml"})
    assert "secret" not in answer.text
    assert orjson.loads(answer.text.splitlines()[-1])["error"]["code"] == "internal"


async def test_orders_and_applies_do_not_mix(site: Site) -> None:
    site.releases.applying = "/b.yaml"
    refused(await site.client.post("/admin/v1/models/a/drain"), 409, "/b.yaml is being applied")
    assert (await site.client.get("/admin/v1/models/a")).status_code == 200
    site.releases.applying = None
    site.keeper.go.clear()
    assert (await site.client.post("/admin/v1/models/a/drain")).status_code == 202
    answer = await site.client.post("/admin/v1/apply", json={"site_file": "/b.yaml"})
    refused(answer, 409, "`drain a`")
    assert site.releases.applied == []


async def test_adapters_are_told_with_those_that_are_refused(site: Site) -> None:
    site.pipeline.gate.enter("a:poet")
    answer = (await site.client.get("/admin/v1/adapters")).json()
    poet = {
        "id": "a:poet", "aliases": ["a:poet-alias"], "digest": "sha256:2", "rank": 4, "in_hand": 1
    }  # fmt: skip
    refusal = {"path": "/more/huge", "reason": "/more/huge: rank 64 is too large"}
    # `b` may have none, and is not in the list.
    assert answer["data"] == [
        {"model": "a", "adapter_dir": "/more", "adapters": [poet], "refused": [refusal]}
    ]
    assert "changes" not in answer
    assert (site.adapters.looks, site.claims()) == (0, 0)


async def test_a_rescan_tells_what_it_changed(site: Site) -> None:
    answer = await site.client.post("/admin/v1/adapters/rescan")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["changes"] == {"added": ["a:n1"], "changed": [], "removed": []}
    assert told["data"][0]["refused"][0]["path"] == "/more/huge"
    refused(await site.client.get("/admin/v1/adapters/rescan"), 405, "takes POST")


async def test_a_rescan_that_fails_says_why_and_that_the_rest_serves(site: Site) -> None:
    site.adapters.failure = SettingsError("/law: rank 32 is above adapter_rank_max 16")
    answer = await site.client.post("/admin/v1/adapters/rescan")
    refused(answer, 400, "/law: rank 32", "the adapters from before are still served")
    assert answer.json()["error"]["code"] == "invalid_adapter"


async def test_no_rescan_while_a_site_is_applied(site: Site) -> None:
    site.releases.applying = "/b.yaml"
    refused(await site.client.post("/admin/v1/adapters/rescan"), 409, "/b.yaml is being applied")
    assert site.adapters.looks == 0
