"""What engines are taken to need, and what there is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serve.core.errors import SetupError
from serve.engines.footprint import (
    FAKE_BYTES,
    GPU_ASLEEP_BYTES,
    GPU_HOST_BYTES,
    bounded,
    capacity,
    capacity_fake,
    estimate,
    estimate_fake,
    footprint,
)
from serve.engines.hardware import GIB, Hardware
from serve.engines.hardware import Memory as Installed
from serve.engines.memory import HOST, Need
from serve.engines.profile import CPU_OVERHEAD_BYTES, choose
from serve.engines.shape import Shape
from serve.settings.model import ServedModel
from serve.settings.operation import Memory

Build = Callable[..., ServedModel]
SMALL = Shape(weights_bytes=GIB // 2, weight_bytes=2, kv_values_per_token=10_000)


def test_a_cpu_engine_needs_weights_cache_and_processes(avx2: Hardware, model: Build) -> None:
    served = model(cpu_kv_gib=3)
    profile = choose(avx2, served, SMALL)
    # float32 here, twice what lies on disk
    assert estimate(served, SMALL, profile, avx2) == Need(
        {HOST: GIB + 3 * GIB + CPU_OVERHEAD_BYTES}
    )
    stock = choose(avx2, served, SMALL, "stock")
    assert estimate(served, SMALL, stock, avx2).awake[HOST] == GIB // 2 + 4 * GIB + 2 * GIB
    made = footprint(served, SMALL, profile, avx2)
    assert (made.kv_bytes, made.on_devices) == (3 * GIB, False)
    other = footprint(model(cpu_kv_gib=4), SMALL, profile, avx2)
    assert made.record_key != other.record_key


def test_each_socket_of_a_cpu_engine_counts(amx: Hardware, model: Build) -> None:
    served = model(cpu_kv_gib=3, parallel={"tensor": 2})
    need = estimate(served, SMALL, choose(amx, served, SMALL), amx)
    assert need.awake == {HOST: GIB // 2 + 2 * (3 * GIB + CPU_OVERHEAD_BYTES)}


def test_a_gpu_engine_takes_its_share_of_each_device(h100_x8: Hardware, model: Build) -> None:
    served = model(devices=(2, 3), parallel={"tensor": 2}, gpu_memory_fraction=0.5)
    need = estimate(served, SMALL, choose(h100_x8, served, SMALL), h100_x8)
    half = int(0.5 * h100_x8.gpus[0].memory_bytes)
    assert need == Need({"gpu2": half, "gpu3": half, HOST: 2 * GPU_HOST_BYTES})


def test_who_can_sleep_leaves_its_device_and_keeps_its_weights(
    h100: Hardware, model: Build
) -> None:
    served = model(gpu_memory_fraction=0.5, idle_sleep_s=60)
    need = estimate(served, SMALL, choose(h100, served, SMALL), h100)
    assert need.asleep == {"gpu0": GPU_ASLEEP_BYTES, HOST: GPU_HOST_BYTES + GIB // 2}
    assert need.sleep_level == 1
    large = replace(SMALL, weights_bytes=30 * GIB)
    tight = replace(h100, memory=Installed(64 * GIB, 40 * GIB))
    need = estimate(served, large, choose(tight, served, large), tight)
    assert (need.sleep_level, need.asleep) == (2, {"gpu0": GPU_ASLEEP_BYTES, HOST: GPU_HOST_BYTES})


def test_there_is_what_the_site_grants_else_what_is_free(h100: Hardware) -> None:
    there = capacity(h100, Memory(reserve_gib=2))
    assert there == {HOST: 498 * GIB, "gpu0": int(0.95 * h100.gpus[0].memory_bytes)}
    assert capacity(h100, Memory(host_gib=8, device_gib=40)) == {HOST: 8 * GIB, "gpu0": 40 * GIB}


def test_profiles_see_no_more_than_engines_may_take(avx2: Hardware) -> None:
    assert bounded(avx2, Memory(host_gib=4)).nodes[0].available_bytes == 4 * GIB
    assert bounded(avx2, Memory()).nodes[0].available_bytes == 15 * GIB
    with pytest.raises(SetupError, match=r"reserve_gib leaves engines nothing of the 22\.0 GiB"):
        bounded(avx2, Memory(reserve_gib=30))


def test_fakes_stand_for_what_the_model_file_says(avx2: Hardware, model: Build) -> None:
    assert estimate_fake(model(), Memory()) == Need({HOST: FAKE_BYTES})
    assert estimate_fake(model(cpu_kv_gib=2), Memory()) == Need({HOST: 2 * GIB})
    served = model(devices=(1,), gpu_memory_fraction=0.5)
    need = estimate_fake(served, Memory(device_gib=10))
    assert need.awake == {"gpu1": 5 * GIB, HOST: FAKE_BYTES}
    assert need.asleep is not None
    there = capacity_fake(avx2, [served], Memory(host_gib=1, device_gib=10))
    assert there == {HOST: GIB, "gpu1": 10 * GIB}


def test_the_path_of_the_weights_is_part_of_what_was_measured(avx2: Hardware, model: Build) -> None:
    profile = choose(avx2, model(), SMALL)
    one, two = (
        footprint(model(source={"path": Path(path)}), SMALL, profile, avx2) for path in ("a", "b")
    )
    assert one.record_key != two.record_key
