"""Requests made up from our own OpenAPI document: whatever comes, the answer is as it says.

schemathesis makes them, some within the schemas and some not. Every operation is asked a few
times in the default suite, and very often in the long one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from serve.api.openapi import document
from tests.conftest import Gateway
from tests.http.things import things

DOCUMENT = document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig(seed=1))
OPERATIONS = {one.label: one for found in SCHEMA.get_all_operations() if (one := found.ok())}
ALWAYS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)
MODES = {
    schemathesis.GenerationMode.POSITIVE: ALWAYS,
    # What is against the document is refused.
    schemathesis.GenerationMode.NEGATIVE: (*ALWAYS, checks.negative_data_rejection),
}
EMBED = ("/v1/embeddings", "/v1/rerank", "/v1/score")
HARD = (
    # Needs one in the background, and one whose parts have come.
    "POST /v1/responses/{response_id}/cancel",
    "POST /v1/uploads/{upload_id}/complete",
)
"""What nothing that is made up is good enough for."""


@pytest.fixture(scope="module")
def session(both: Gateway) -> Iterator[requests.Session]:
    with requests.Session() as one:
        yield one


def as_clients_write(value: Any) -> Any:
    """The same JSON with whole numbers written as such: 2.0 is an integer only to a schema."""
    if isinstance(value, dict):
        return {key: as_clients_write(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_clients_write(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def refer(body: dict[str, Any], model: str, known: dict[str, str]) -> None:
    """Have it ask for what there is; of what excludes each other, it asks for one."""
    if "model" in body:
        body["model"] = model
    if body.get("previous_response_id"):
        body |= {"previous_response_id": known["response_id"], "conversation": None}
    if body.get("conversation"):
        body["conversation"] = known["conversation_id"]
    if "input_file_id" in body:
        body |= {"input_file_id": known["file_id"], "endpoint": "/v1/chat/completions"}
    if "text_1" in body or "queries" in body:
        for name in ("text_1", "text_2", "data_1", "data_2", "queries", "documents", "items"):
            body.pop(name, None)
        body |= {"queries": "a", "documents": ["b", "c"]}


def nothing_sent(case: Any) -> bool:
    """Whether what was wrong is an empty array in a form, of which nothing is sent."""
    form = case.media_type == "multipart/form-data" and isinstance(case.body, dict)
    return form and [] in case.body.values()


def check_events(case: Any, answer: requests.Response) -> None:
    """A stream's events are of their schema, one by one."""
    said = DOCUMENT["paths"][case.path][case.method.lower()]["responses"]["200"]
    schema = said["content"]["text/event-stream"]["x-event-schema"]
    events = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert data
    for one in data:
        events.validate(one if one == "[DONE]" else json.loads(one))


@pytest.fixture(scope="module")
def kept(both: Gateway) -> dict[str, str]:
    """What there is to ask for, for those who leave it there."""
    return things(both.client, "chat")


@dataclass(frozen=True)
class Asking:
    """Who asks a server for an operation; `known` are the ids of what there is."""

    url: str
    session: requests.Session
    known: dict[str, str]

    def often(self, label: str, mode: Any, times: int) -> int:
        """How many of so many requests that are made up were granted."""
        operation = OPERATIONS[label]
        granted = 0

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=times, derandomize=True, deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def ask(case: Any) -> None:
            nonlocal granted
            granted += self.once(case, mode)

        ask()
        return granted

    def once(self, case: Any, mode: Any) -> bool:
        """Whether it was granted; raises where the answer is not as the document says."""
        if mode is schemathesis.GenerationMode.POSITIVE:
            case.body = as_clients_write(case.body)
            if isinstance(case.body, dict):
                refer(case.body, "vectors" if case.path in EMBED else "chat", self.known)
            known = {name: self.known[name] for name in case.path_parameters if name in self.known}
            case.path_parameters.update(known)
        answer = case.call(base_url=self.url, session=self.session)
        if "text/event-stream" in answer.headers.get("content-type", [""])[0]:
            check_events(case, answer)
        else:
            case.validate_response(
                answer, checks=list(ALWAYS if nothing_sent(case) else MODES[mode])
            )
        return bool(answer.status_code == 200)


@pytest.fixture
def asking(both: Gateway, session: requests.Session, kept: dict[str, str], label: str) -> Asking:
    ends = label.startswith("DELETE") or label.endswith(("cancel", "complete"))
    return Asking(both.url, session, things(both.client, "chat") if ends else kept)


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_any_request_is_answered_as_the_document_says(asking: Asking, label: str) -> None:
    asked = [asking.often(label, mode, 2) for mode in modes_of(label)]
    assert len(asked) in (1, 2)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_any_request_very_often(asking: Asking, label: str) -> None:
    granted = [asking.often(label, mode, 100) for mode in modes_of(label)]
    assert granted[0] > 0 or label in HARD, "no request that was made up was a good one"


def modes_of(label: str) -> list[Any]:
    """What takes no parameter cannot be asked wrongly."""
    operation = OPERATIONS[label]
    plain = not operation.body and not list(operation.iter_parameters())
    return list(MODES)[: 1 if plain else 2]
