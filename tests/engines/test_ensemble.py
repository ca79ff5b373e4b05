"""A model's backend, made of what answers for it and taken apart again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.engines.ensemble import joined, locals_of, parts_of, remotes_of
from serve.engines.remote import RemoteEngine
from serve.engines.replicas import Replicas
from serve.settings.model import ServedModel
from serve.settings.remote import Remote
from tests.engines.machine import Machine, cpu, resident

Model = Callable[..., ServedModel]
URLS = ("https://node-2:8000", "https://node-3:8000")


def elsewhere(model: Model, remote: Remote) -> ServedModel:
    return model(name="m").model_copy(update={"engine": remote})


async def test_one_engine_here_is_the_backend_itself(model: Model) -> None:
    one = resident(Machine({}, {"m": cpu(1)}), "m")
    backend = joined(model(name="m"), [one], 8)
    assert backend is one
    assert parts_of(backend) == {"": one}
    assert locals_of(backend) == {"": one}
    assert remotes_of(backend) == ()


async def test_several_here_are_known_by_number_whatever_their_keys(model: Model) -> None:
    machine = Machine({}, {"old": cpu(1), "new": cpu(1)})
    engines = [resident(machine, name) for name in ("old", "new")]
    backend = joined(model(name="m"), engines, 8)
    assert isinstance(backend, Replicas)
    assert parts_of(backend) == {"m#1": engines[0], "m#2": engines[1]}
    assert locals_of(backend) == {"1": engines[0], "2": engines[1]}
    assert remotes_of(backend) == ()


async def test_one_server_elsewhere(model: Model) -> None:
    backend = joined(elsewhere(model, Remote(url=URLS[0], model="theirs")), [], 8)
    assert isinstance(backend, RemoteEngine)
    assert backend.waiting_max == 8
    assert remotes_of(backend) == (backend,)
    assert locals_of(backend) == {}


async def test_several_servers_elsewhere(model: Model) -> None:
    backend = joined(elsewhere(model, Remote(url=URLS[0], more_urls=URLS[1:])), [], 8)
    assert isinstance(backend, Replicas)
    assert tuple(parts_of(backend)) == URLS
    assert len(remotes_of(backend)) == 2
    assert locals_of(backend) == {}


async def test_one_that_cannot_be_asked_is_refused_at_once(model: Model, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"engine\.key_file"):
        joined(elsewhere(model, Remote(url=URLS[0], key_file=tmp_path / "none")), [], 8)
