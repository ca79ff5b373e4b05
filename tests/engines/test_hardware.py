"""What is read of a machine, from texts as kernels and drivers write them."""

import pytest

from serve.engines.hardware import (
    GIB,
    Cpu,
    Gpu,
    Memory,
    one_thread_a_core,
    parse_cpu_list,
    parse_cpu_max,
    parse_cpuinfo,
    parse_meminfo,
    parse_nvidia_smi,
    probe,
)

ZEN3 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse4_2 avx avx2 fma
bugs\t\t: sysret_ss_attrs

processor\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse4_2 avx avx2 fma
"""
SAPPHIRE_RAPIDS = """\
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: avx2 avx512f avx512_bf16 amx_bf16 amx_tile amx_int8
"""
CASCADE_LAKE = """\
model name\t: Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz
flags\t\t: avx2 avx512f avx512_vnni
"""
GRACE = """\
processor\t: 0
BogoMIPS\t: 2000.00
Features\t: fp asimd sve sve2 i8mm bf16
CPU implementer\t: 0x41
"""


@pytest.mark.parametrize(
    ("text", "name", "bf16"),
    [
        (ZEN3, "AMD EPYC 7763 64-Core Processor", False),
        (SAPPHIRE_RAPIDS, "Intel(R) Xeon(R) Platinum 8480+", True),
        (CASCADE_LAKE, "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", False),
        (GRACE, "unknown", True),
    ],
)
def test_cpuinfo_tells_who_multiplies_bfloat16(text: str, name: str, bf16: bool) -> None:
    found, flags = parse_cpuinfo(text)
    assert found == name
    assert Cpu(found, "any", flags, None).bf16_matrix is bf16


def test_nvidia_smi_of_no_one_and_eight_gpus() -> None:
    line = "NVIDIA H100 80GB HBM3, 81559, 9.0\n"
    h100 = Gpu("NVIDIA H100 80GB HBM3", 81_559 * 2**20, (9, 0))
    assert parse_nvidia_smi("") == ()
    assert parse_nvidia_smi(line) == (h100,)
    assert parse_nvidia_smi(line * 8) == (h100,) * 8


def test_a_gpu_name_may_hold_a_comma_and_an_answer_be_none() -> None:
    (gpu,) = parse_nvidia_smi("Quadro, RTX 6000, 24576, 7.5")
    assert gpu.name == "Quadro, RTX 6000"
    with pytest.raises(ValueError, match="invalid literal"):
        parse_nvidia_smi("NVIDIA GB10, [N/A], 12.1")


def test_meminfo_of_a_machine_and_of_a_node() -> None:
    whole = "MemTotal:       24684000 kB\nMemFree: 1 kB\nMemAvailable:   20971520 kB\n"
    assert parse_meminfo(whole) == Memory(24_684_000 * 1024, 20 * GIB)
    node = (
        "Node 0 MemTotal:       12281632 kB\nNode 0 MemFree:        1048576 kB\n"
        "Node 0 Active(file):   524288 kB\nNode 0 Inactive(file): 524288 kB\n"
        "Node 0 SReclaimable:   1048576 kB\nNode 0 AnonPages: 7 kB\n"
    )
    assert parse_meminfo(node) == Memory(12_281_632 * 1024, 3 * GIB)


def test_quotas() -> None:
    assert parse_cpu_max("max 100000\n") is None
    assert parse_cpu_max("250000 100000\n") == 2.5


def test_cpu_lists() -> None:
    assert parse_cpu_list("0-3,8,10-11\n") == (0, 1, 2, 3, 8, 10, 11)
    assert parse_cpu_list("\n") == ()


def test_one_thread_of_each_core() -> None:
    siblings = {0: (0, 4), 1: (1, 5), 4: (0, 4), 5: (1, 5)}
    assert one_thread_a_core({5, 4, 1, 0}, siblings) == (0, 1)
    # Where only a core's second thread is allowed, that one.
    assert one_thread_a_core({4, 1}, siblings) == (1, 4)


def test_this_machine_can_be_probed() -> None:
    found = probe()
    assert found.memory.total_bytes >= found.memory.available_bytes > 0
    assert found.nodes
    assert all(node.cores for node in found.nodes)
