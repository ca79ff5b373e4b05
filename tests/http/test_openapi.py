"""`/openapi.json` of a running server, and what it says of methods and keys held against it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.api.openapi import document
from tests.conftest import Gateway

DOCUMENT = document()
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PATHS = sorted(DOCUMENT["paths"])
OPERATIONS = [
    (method.upper(), path, one)
    for path, methods in DOCUMENT["paths"].items()
    for method, one in methods.items()
]
KEYED = [(method, path) for method, path, one in OPERATIONS if one.get("security") != []]


@pytest.fixture(scope="module")
def stranger(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=gateway.url) as client:
        yield client


def address(path: str) -> str:
    return path.replace("{", "").replace("}", "")


def error(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()["error"]
    return body


def test_it_is_served_to_those_who_have_a_key(gateway: Gateway) -> None:
    answer = gateway.client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT
    assert gateway.client.get("/openapi.json").content == answer.content


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_without_a_key_that_is_known_nothing_is_told(
    stranger: httpx.Client, method: str, path: str
) -> None:
    for headers in ({}, {"authorization": "Bearer sk-unknown"}, {"x-api-key": "sk-unknown"}):
        answer = stranger.request(method, address(path), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert error(answer)["type"] == "authentication_error"


def test_probes_need_none(stranger: httpx.Client) -> None:
    open_to_all = {path for _, path, one in OPERATIONS if one.get("security") == []}
    assert open_to_all == {"/health/live", "/health/ready", "/metrics"}
    for path in open_to_all:
        assert stranger.get(path).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_told_which_there_are(gateway: Gateway, path: str) -> None:
    there = {method.upper() for method in DOCUMENT["paths"][path]}
    for method in METHODS:
        if method in there:
            continue
        answer = gateway.client.request(method, address(path))
        assert answer.status_code == 405
        assert answer.headers["allow"] == ", ".join(sorted(there))
        if not path.startswith("/v1/messages"):
            assert error(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize(("method", "path", "said"), OPERATIONS)
def test_a_query_parameter_is_known_or_refused(
    gateway: Gateway, method: str, path: str, said: dict[str, Any]
) -> None:
    if said.get("security") == []:
        return
    named = [one["name"] for one in said.get("parameters", ()) if one["in"] == "query"]
    for name in named:
        shown = f"{name}[a]" if name == "metadata" else name
        answer = gateway.client.request(method, address(path), params={shown: "asc"})
        assert answer.status_code in (200, 400, 404)
        assert "Unknown parameter" not in answer.text
    answer = gateway.client.request(method, address(path), params={"unheard_of": "1"})
    assert answer.status_code == 400
    assert "unheard_of" in error(answer)["message"]
