"""Machines and models for tests of how an engine is run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve.engines.hardware import GIB, Cpu, Gpu, Hardware, Memory, Node, Tools
from serve.settings.model import ModelConfig, ServedModel

_ZEN3 = frozenset({"avx", "avx2", "fma"})
_SAPPHIRE_RAPIDS = _ZEN3 | {"avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}


@pytest.fixture
def avx2() -> Hardware:
    """Two cores, 24 GiB, no GPU, everything installed but tcmalloc."""
    return Hardware(
        gpus=(),
        cpu=Cpu("AMD EPYC", "x86_64", _ZEN3, None),
        nodes=(Node((0, 1), 16 * GIB, 15 * GIB),),
        memory=Memory(24 * GIB, 22 * GIB),
        tools=Tools(
            compiler="/usr/bin/g++",
            python_headers="/usr/include/python3.11/Python.h",
            tcmalloc=None,
            libiomp="/opt/lib/libiomp5.so",
            vllm="0.32.0",
            torch="2.13.0",
            python="3.11.2",
        ),
    )


@pytest.fixture
def amx(avx2: Hardware) -> Hardware:
    """Two sockets of 56 cores with AMX."""
    nodes = [Node(tuple(range(at, at + 56)), 256 * GIB, 250 * GIB) for at in (0, 56)]
    cpu = Cpu("Intel(R) Xeon(R) Platinum 8480+", "x86_64", _SAPPHIRE_RAPIDS, None)
    return replace(avx2, cpu=cpu, nodes=tuple(nodes), memory=Memory(512 * GIB, 500 * GIB))


@pytest.fixture
def h100(amx: Hardware) -> Hardware:
    return replace(amx, gpus=(Gpu("NVIDIA H100 80GB HBM3", 81_559 * 2**20, (9, 0)),))


@pytest.fixture
def h100_x8(h100: Hardware) -> Hardware:
    return replace(h100, gpus=h100.gpus * 8)


@pytest.fixture
def model() -> Callable[..., ServedModel]:
    """A model file's fields, with short ones for what is not said."""

    def build(**fields: Any) -> ServedModel:
        placement = {key: fields.pop(key) for key in ("snapshot", "idle_sleep_s") if key in fields}
        given = {"name": "small", "source": {"path": Path("/models/small")}, "context_tokens": 8192}
        return ServedModel(config=ModelConfig.model_validate(given | fields), **placement)

    return build
