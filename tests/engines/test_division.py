"""A machine divided among the engines of one model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serve.core.errors import SetupError
from serve.engines.division import divided, keys_of
from serve.engines.hardware import Hardware
from serve.engines.profile import choose
from serve.engines.shape import Shape
from serve.settings.model import ServedModel
from serve.settings.remote import Remote

Model = Callable[..., ServedModel]
SHAPE = Shape(weights_bytes=2**28, weight_bytes=2, kv_values_per_token=10_000)


@pytest.fixture
def replicated(model: Model) -> Model:
    def build(replicas: int, **fields: Any) -> ServedModel:
        return model(**fields).model_copy(update={"replicas": replicas})

    return build


def test_the_only_engine_has_the_models_name_and_the_whole_machine(
    h100_x8: Hardware, replicated: Model
) -> None:
    one = replicated(1)
    assert keys_of(one) == ("small",)
    assert divided(h100_x8, one, 0) == (h100_x8, one)


def test_engines_are_numbered_from_one(replicated: Model) -> None:
    assert keys_of(replicated(3)) == ("small#1", "small#2", "small#3")


def test_what_is_answered_elsewhere_has_no_engine_here(model: Model) -> None:
    remote = model().model_copy(update={"engine": Remote(url="http://node-2:8000")})
    assert keys_of(remote) == ()


@pytest.mark.parametrize("given", [None, (7, 6, 5, 4, 3, 2)])
def test_each_has_gpus_of_its_own(
    h100_x8: Hardware, replicated: Model, given: tuple[int, ...] | None
) -> None:
    three = replicated(3, parallel={"tensor": 2}, devices=given)
    taken = [divided(h100_x8, three, at)[1].config.devices for at in range(3)]
    assert taken == ([(0, 1), (2, 3), (4, 5)] if given is None else [(7, 6), (5, 4), (3, 2)])


def test_too_few_gpus_are_refused_with_the_figures(h100: Hardware, replicated: Model) -> None:
    with pytest.raises(SetupError, match=r"2 replicas need 4 GPUs, 2 each .* there are 1; lower"):
        divided(h100, replicated(2, parallel={"tensor": 2}), 1)


def test_each_has_a_socket_of_its_own_where_there_are_enough(
    amx: Hardware, replicated: Model
) -> None:
    nodes = [divided(amx, replicated(2), at)[0].nodes for at in range(2)]
    assert nodes == [amx.nodes[:1], amx.nodes[1:]]


def test_else_they_share_the_cores_and_each_has_its_part_of_the_memory(
    avx2: Hardware, replicated: Model
) -> None:
    whole = int(choose(avx2, replicated(1), SHAPE).env["VLLM_CPU_KVCACHE_SPACE"])
    parts = [divided(avx2, replicated(2), at) for at in range(2)]
    assert parts[0] == parts[1]
    hardware, planned = parts[0]
    assert hardware.nodes[0].cores == avx2.nodes[0].cores
    assert hardware.nodes[0].available_bytes * 2 <= avx2.nodes[0].available_bytes
    assert int(choose(hardware, planned, SHAPE).env["VLLM_CPU_KVCACHE_SPACE"]) * 2 <= whole


def test_more_engines_than_the_memory_holds_are_refused(avx2: Hardware, replicated: Model) -> None:
    many = replicated(16)
    hardware, planned = divided(avx2, many, 3)
    with pytest.raises(SetupError, match="too little memory"):
        choose(hardware, planned, SHAPE)


def test_dividing_changes_nothing_but_the_nodes(avx2: Hardware, replicated: Model) -> None:
    hardware, _ = divided(avx2, replicated(2), 0)
    assert replace(hardware, nodes=avx2.nodes) == avx2
