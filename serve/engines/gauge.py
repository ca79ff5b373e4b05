"""What the processes of an engine really hold, read from the kernel and from the driver."""

import shutil
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from serve.engines.hardware import NVIDIA_SMI_TIMEOUT_S
from serve.engines.memory import HOST, Amounts, gpu
from serve.engines.mortality import session_members

_KIB: Final = 1024
_GIVEN_BACK: Final = ("Pss_Anon", "Pss_Shmem")
"""Pages of files (weights that were read, libraries) go when memory is short; these do not."""


def holdings(leader: int, devices: bool) -> Amounts:
    """What all processes of this session hold, by pool. Reads /proc: use it in a thread.

    Memory that they share counts once. Where the driver does not tell the processes of this
    session (in a container it may not know them), the result names no device.
    """
    members = session_members(leader)
    host = sum(_host_bytes(pid) for pid in members)
    return {HOST: host, **(_on_devices(members) if devices else {})}


def parse_rollup(text: str) -> int:
    """Bytes of a process's own and shared memory, from /proc/<pid>/smaps_rollup."""
    values = {}
    for line in text.splitlines():
        key, colon, rest = line.partition(":")
        if colon and rest.endswith(" kB"):
            values[key] = int(rest.split()[0]) * _KIB
    if _GIVEN_BACK[0] in values:
        return sum(values.get(key, 0) for key in _GIVEN_BACK)
    return values.get("Pss", 0)


def parse_compute_apps(text: str, order: Iterable[str], members: Collection[int]) -> Amounts:
    """From `nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory` without header and units.

    `order` is the devices' UUIDs, by index. Memory is in MiB there; raises ValueError for text
    of another form.
    """
    index = {uuid: at for at, uuid in enumerate(order)}
    found: dict[str, int] = {}
    for line in text.strip().splitlines():
        uuid, pid, used_mib = (part.strip() for part in line.split(","))
        if int(pid) in members and uuid in index:
            pool = gpu(index[uuid])
            found[pool] = found.get(pool, 0) + int(used_mib) * 2**20
    return found


def _host_bytes(pid: int) -> int:
    try:
        return parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0  # it has ended since it was listed


def _on_devices(members: Collection[int]) -> Amounts:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return {}
    try:
        uuids = _asked(smi, "--query-gpu=uuid").split()
        apps = _asked(smi, "--query-compute-apps=gpu_uuid,pid,used_memory")
        return parse_compute_apps(apps, uuids, members)
    except (subprocess.SubprocessError, OSError, ValueError):
        return {}


def _asked(smi: str, query: str) -> str:
    done = subprocess.run(
        [smi, query, "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=NVIDIA_SMI_TIMEOUT_S,
        check=True,
    )
    return done.stdout
