from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from serve.settings.consistency import of_door, of_models
from serve.settings.model import ModelConfig, Parallel, ServedModel, Source
from serve.settings.site import Auth, Listen, Site


def model(name: str = "m", aliases=(), snapshot: date | None = None, **config) -> ServedModel:
    made = ModelConfig(name=name, source=Source(path=Path("w")), context_tokens=64, **config)
    return ServedModel(config=made, aliases=aliases, snapshot=snapshot)


def texts(*models: ServedModel) -> list[str]:
    return [conflict.text for conflict in of_models(models)]


@pytest.mark.parametrize(
    "second",
    [
        model("a"),
        model("b", aliases=("a",)),
        model("b", aliases=("x",)),
        model("x"),
        model("a-2026-11-01"),
        model("b", aliases=("a-2026-11-01",)),
        model("a", snapshot=date(2026, 11, 1)),
    ],
)
def test_a_name_means_one_model(second: ServedModel) -> None:
    first = model("a", aliases=("x",), snapshot=date(2026, 11, 1))
    conflicts = list(of_models([first, second]))
    assert conflicts
    assert all(conflict.place[:2] == ("models", 1) for conflict in conflicts)
    assert 'already means models[0] ("a")' in conflicts[0].text


def test_a_model_may_repeat_its_own_names() -> None:
    assert texts(model("a", aliases=("a", "b", "b")), model("c")) == []


def test_devices_agree_with_parallel() -> None:
    assert texts(model(devices=(0, 1), parallel=Parallel(tensor=2))) == []
    (text,) = texts(model(devices=(0, 1, 2), parallel=Parallel(tensor=2, pipeline=2)))
    assert "names 3 devices, but parallel takes 4 (tensor 2 x pipeline 2 x data 1)" in text
    assert texts(model(devices=(1, 1), parallel=Parallel(data=2))) == [
        "models[0].devices names a device twice"
    ]


def test_shares_of_one_gpu() -> None:
    alone = model("a", devices=(0,))
    assert texts(alone, model("b", devices=(1,))) == []
    assert texts(
        model("a", devices=(0,), gpu_memory_fraction=0.8),
        model("b", devices=(0,), gpu_memory_fraction=0.15),
    ) == []  # fmt: skip
    (text,) = texts(
        model("a", devices=(0,), gpu_memory_fraction=0.8),
        model("b", devices=(0,), gpu_memory_fraction=0.2),
    )
    assert "models on GPU 0 take 1.00 of its memory together" in text
    (text,) = texts(alone, model("b", devices=(0,), gpu_memory_fraction=0.2))
    assert text.startswith("models[0] shares GPU 0 with another model")


def test_a_share_without_devices_is_of_the_first_ones() -> None:
    spread = model("a", parallel=Parallel(tensor=2), gpu_memory_fraction=0.9)
    (text,) = texts(spread, model("b", devices=(1,), gpu_memory_fraction=0.1))
    assert "models on GPU 1 take 1.00" in text
    assert texts(spread, model("b", devices=(2,), gpu_memory_fraction=0.1)) == []


def test_models_that_say_nothing_of_gpus_are_left_to_the_machine() -> None:
    assert texts(model("a"), model("b")) == []


def test_embedding_models_have_no_parsers() -> None:
    (text,) = texts(model(task="embed", tool_parser="hermes"))
    assert text == "models[0].tool_parser has no meaning for task embed; remove it"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_no_keys_are_fine_on_loopback(host: str) -> None:
    listen = Listen(host=host)
    assert listen.loopback
    assert list(of_door(listen.loopback, "none", host)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "gpu-7"])
def test_no_keys_elsewhere_are_refused(host: str) -> None:
    listen = Listen(host=host)
    assert not listen.loopback
    (conflict,) = of_door(listen.loopback, "none", host)
    assert conflict.place == ("auth", "mode")
    assert host in conflict.text


def test_a_site_built_in_code_is_held_to_the_same() -> None:
    with pytest.raises(ValidationError, match="loopback"):
        Site(site="x", models=(model(),), listen=Listen(host="0.0.0.0"), auth=Auth(mode="none"))
    with pytest.raises(ValidationError, match="already means"):
        Site(site="x", models=(model("a"), model("a")))
