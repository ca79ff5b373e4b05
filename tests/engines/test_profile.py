"""Which settings a machine gets, and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from serve.core.errors import SetupError
from serve.engines.hardware import GIB, Gpu, Hardware, Memory, Node
from serve.engines.profile import Profile, choose, ranges
from serve.engines.shape import Shape
from serve.settings.model import ServedModel

Models = Callable[..., ServedModel]

SMALL = Shape(GIB // 4, 2, 11_520)
LARGE = Shape(60 * GIB, 2, 65_536)


def words(profile: Profile) -> dict[str, str]:
    return {choice.name: choice.value for choice in profile.choices}


def test_avx2_computes_in_float32_on_all_cores_in_one_copied_process(
    avx2: Hardware, model: Models
) -> None:
    profile = choose(avx2, model(), SMALL)
    assert profile.args["dtype"] == "float32"
    assert profile.args["distributed-executor-backend"] == "uni"
    assert profile.env["OMP_NUM_THREADS"] == "2"
    assert profile.env["LD_PRELOAD"] == "/opt/lib/libiomp5.so"
    assert profile.env["VLLM_USE_AOT_COMPILE"] == "0"
    assert profile.env["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"
    # 15 available, 0.5 of weights in float32, 2 for processes: 30 % of 12.5.
    assert profile.env["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_every_choice_has_a_reason_and_is_set(
    avx2: Hardware, h100: Hardware, model: Models
) -> None:
    for machine in (avx2, h100):
        profile = choose(machine, model(), SMALL)
        assert all(choice.reason for choice in profile.choices)
        set_values = {f"--{name}" for name in profile.args} | set(profile.env)
        assert {choice.name for choice in profile.choices} == set_values


def test_amx_computes_in_bfloat16_on_one_socket_and_keeps_a_core(
    amx: Hardware, model: Models
) -> None:
    profile = choose(amx, model(), SMALL)
    assert profile.args["dtype"] == "bfloat16"
    assert profile.env["OMP_NUM_THREADS"] == "55"
    assert profile.env["INHOUSE_CPUS"] == "0-55"


def test_two_sockets_get_a_worker_each(amx: Hardware, model: Models) -> None:
    profile = choose(amx, model(parallel={"tensor": 2}), SMALL)
    assert profile.env["VLLM_CPU_OMP_THREADS_BIND"] == "0-54|56-110"
    assert "distributed-executor-backend" not in profile.args
    with pytest.raises(SetupError, match=r"4 CPU sockets .* has 2"):
        choose(amx, model(parallel={"tensor": 4}), SMALL)


def test_without_intels_openmp_vllm_starts_its_worker_its_own_way(
    avx2: Hardware, model: Models
) -> None:
    bare = replace(avx2, tools=replace(avx2.tools, libiomp=None))
    profile = choose(bare, model(), SMALL)
    assert profile.env["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert not {"LD_PRELOAD", "VLLM_WORKER_MULTIPROC_METHOD"} & set(profile.env)


def test_a_quota_bounds_the_threads(amx: Hardware, model: Models) -> None:
    bounded = replace(amx, cpu=replace(amx.cpu, quota_cores=3.5))
    assert choose(bounded, model(), SMALL).env["OMP_NUM_THREADS"] == "3"
    sliver = replace(amx, cpu=replace(amx.cpu, quota_cores=0.5))
    assert choose(sliver, model(), SMALL).env["OMP_NUM_THREADS"] == "1"


def test_what_the_model_file_says_wins(avx2: Hardware, model: Models) -> None:
    profile = choose(avx2, model(dtype="bfloat16", cpu_kv_gib=5, max_streams=8), SMALL)
    said = words(profile)
    assert (said["--dtype"], said["VLLM_CPU_KVCACHE_SPACE"], said["--max-num-seqs"]) == (
        "bfloat16",
        "5",
        "8",
    )


def test_tcmalloc_is_used_where_it_is(avx2: Hardware, model: Models) -> None:
    with_it = replace(avx2, tools=replace(avx2.tools, tcmalloc="/lib/libtcmalloc_minimal.so.4"))
    preload = choose(with_it, model(), SMALL).env["LD_PRELOAD"]
    assert preload == "/lib/libtcmalloc_minimal.so.4:/opt/lib/libiomp5.so"


def test_compiling_without_tools_is_refused_unless_eager(avx2: Hardware, model: Models) -> None:
    bare = replace(avx2, tools=replace(avx2.tools, python_headers=None, compiler=None))
    with pytest.raises(SetupError, match=r"apt install g\+\+.* and .*python3-dev.*enforce-eager"):
        choose(bare, model(), SMALL)
    choose(bare, model(engine_args={"enforce_eager": True}), SMALL)
    assert choose(bare, model(task="embed"), SMALL).args["enforce-eager"] is True


def test_too_little_memory_names_what_is_needed(avx2: Hardware, model: Models) -> None:
    with pytest.raises(SetupError, match=r"too little memory: 125\.0 GiB needed .*15\.0 GiB avail"):
        choose(avx2, model(context_tokens=4096 * 3), LARGE)
    full = replace(avx2, nodes=(Node((0, 1), 16 * GIB, 3 * GIB),))
    with pytest.raises(SetupError, match="too little memory"):
        choose(full, model(), SMALL)


def test_one_whole_context_fits_the_cache(avx2: Hardware, model: Models) -> None:
    # 11,520 numbers of 4 bytes a token: 131,072 of them are 5.6 GiB.
    profile = choose(avx2, model(context_tokens=131_072), SMALL)
    assert profile.env["VLLM_CPU_KVCACHE_SPACE"] == "6"


def test_memory_of_other_sockets_does_not_count(avx2: Hardware, model: Models) -> None:
    far = replace(avx2, memory=Memory(1024 * GIB, 1000 * GIB))
    with pytest.raises(SetupError, match="too little memory"):
        choose(far, model(), LARGE)


def test_gpus(h100: Hardware, h100_x8: Hardware, model: Models) -> None:
    profile = choose(h100, model(), LARGE)
    assert words(profile) == {
        "CUDA_VISIBLE_DEVICES": "0",
        "--dtype": "auto",
        "--gpu-memory-utilization": "0.92",
        "--max-num-seqs": "1024",
    }
    small = replace(h100, gpus=(Gpu("NVIDIA L4", 23 * GIB, (8, 9)),))
    assert choose(small, model(), SMALL).args["max-num-seqs"] == 256
    assert "max-num-seqs" not in choose(h100, model(task="embed"), SMALL).args
    four = choose(h100_x8, model(parallel={"tensor": 4}, devices=[4, 5, 6, 7]), LARGE)
    assert four.env["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


def test_gpus_that_are_not_there_or_too_small_are_refused(h100: Hardware, model: Models) -> None:
    with pytest.raises(SetupError, match=r"needs 2 GPUs .* this machine has 1"):
        choose(h100, model(parallel={"tensor": 2}), SMALL)
    with pytest.raises(SetupError, match="may use numbers 3; this machine has 1"):
        choose(h100, model(devices=[3]), SMALL)
    with pytest.raises(SetupError, match=r"60\.0 GiB of weights for each GPU, 39\.8 GiB are"):
        choose(h100, model(gpu_memory_fraction=0.5), LARGE)


def test_old_gpus_compute_in_float16(h100: Hardware, model: Models) -> None:
    v100 = replace(h100, gpus=(Gpu("Tesla V100-SXM2-32GB", 32 * GIB, (7, 0)),))
    assert choose(v100, model(), SMALL).args["dtype"] == "float16"


def test_sleep_is_switched_on_only_where_the_site_wants_it(h100: Hardware, model: Models) -> None:
    assert "enable-sleep-mode" not in choose(h100, model(), SMALL).args
    assert choose(h100, model(idle_sleep_s=60), SMALL).args["enable-sleep-mode"] is True


def test_stock_sets_nothing(avx2: Hardware, model: Models) -> None:
    assert choose(avx2, model(), SMALL, "stock") == Profile({}, {}, ())


def test_without_vllm_nothing_is_planned(avx2: Hardware, model: Models) -> None:
    bare = replace(avx2, tools=replace(avx2.tools, vllm=None))
    with pytest.raises(SetupError, match="make setup"):
        choose(bare, model(), SMALL)


def test_ranges() -> None:
    assert ranges((0, 1, 2, 3, 8)) == "0-3,8"
