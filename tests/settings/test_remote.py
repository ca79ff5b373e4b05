"""A server elsewhere in a site file: what is said of it, and what contradicts it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.settings.conftest import Sites

Problems = Callable[..., list[str]]


def site(engine: str, more: str = "") -> str:
    return f"site: lab\nroot: ../..\nmodels:\n  - {{use: small, engine: {{{engine}}}{more}}}\n"


def test_a_server_elsewhere(sites: Sites) -> None:
    engine = "kind: remote, url: 'https://node-2:8443/a', model: m, key_file: key, ca_file: ca.pem"
    remote = sites.load(site(engine)).models[0].engine
    assert remote is not None
    assert remote.urls == ("https://node-2:8443/a",)
    assert (remote.key_file, remote.ca_file) == (sites.folder / "key", sites.folder / "ca.pem")


def test_several_servers_are_alike_but_for_their_addresses(sites: Sites) -> None:
    engine = "url: 'https://node-2', more_urls: ['https://node-3'], key_file: key"
    remote = sites.load(site(engine)).models[0].engine
    assert remote is not None
    assert [one.urls for one in remote.each()] == [("https://node-2",), ("https://node-3",)]
    assert {one.key_file for one in remote.each()} == {Path(sites.folder / "key")}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("replicas", "2"),
        ("load", "on_demand"),
        ("pin", "true"),
        ("idle_sleep_s", "5"),
        ("devices", "[0]"),
        ("adapters", "[{name: legal, path: adapters/legal}]"),
        ("adapter_dir", "adapters"),
    ],
)
def test_what_only_engines_here_can_be_given_is_refused_by_field(
    problems: Problems, setting: str, value: str
) -> None:
    (said,) = problems(site("url: 'https://node-2'", f", {setting}: {value}"))
    assert said.startswith("sites/lab.yaml:4: ")
    assert f"models[0].{setting} is for engines on this machine" in said
    assert ("engine.more_urls" in said) == (setting == "replicas")


def test_a_model_files_own_adapters_are_refused_too(sites: Sites) -> None:
    text = sites.model("small", "").parent / "small.yaml"
    text.write_text(
        "name: small\nsource: {path: models/small}\ncontext_tokens: 4096\n"
        "adapters: [{name: legal, path: adapters/legal}]\n"
    )
    (said,) = sites.problems(site("url: 'https://node-2'"))
    assert "models[0].adapters is for engines on this machine" in said


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("url: 'https://node-2/v1'", "ends in /v1, which is added to it"),
        ("url: 'http://node-2', key_file: key", "would show the key to the network"),
        ("url: 'http://127.0.0.1:1', ca_file: ca.pem", "is plain http, so ca_file means nothing"),
        ("url: 'https://node-2:0'", "has no host, or a port that is none"),
        ("url: 'https://node-2:99999'", "has no host, or a port that is none"),
        ("url: 'https://a..b'", "has no host, or a port that is none"),
        (f"url: 'https://{'a' * 64}'", "has no host, or a port that is none"),
        ("url: 'https://:8000'", "has no host, or a port that is none"),
        ("url: 'https://[::1'", "has no host, or a port that is none"),
        ("url: 'https://a', more_urls: ['https://a']", "names one server twice"),
        ("url: 'https://a', more_urls: ['https://b/v1']", "https://b/v1 ends in /v1"),
        ("url: 'ftp://a'", "an address such as"),
        ("url: 'https://key@a'", "an address such as"),
        ("model: m", "url"),
    ],
)
def test_addresses_that_cannot_be_meant(problems: Problems, engine: str, said: str) -> None:
    (line,) = problems(site(engine))
    assert said in line


def test_a_key_is_sent_in_the_clear_on_this_machine_only(sites: Sites) -> None:
    for url in ("http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000"):
        assert sites.load(site(f"url: '{url}', key_file: key")).models[0].engine is not None
