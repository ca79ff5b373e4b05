"""What a standby process is told: which engine to become. Both ends of its line.

A standby has paid for the imports of an engine and waits. What is read before or while modules
are imported (preloaded libraries, threads, devices) it must have been started with; the rest of
an engine's environment it takes on with its order.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import orjson

STANDBY_FLAG: Final = "--standby"
WARM: Final = b"."
"""Sent by a standby once it has nothing left to import."""
ORDER_MAX_BYTES: Final = 256 * 1024

LATE: Final = frozenset({
    "INHOUSE_ENGINE", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT",
    "VLLM_CONFIG_ROOT", "VLLM_CPU_KVCACHE_SPACE", "VLLM_SERVER_DEV_MODE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "TIKTOKEN_ENCODINGS_BASE",
})  # fmt: skip
"""Variables that an engine reads when it uses them, after all imports."""


@dataclass(frozen=True, slots=True)
class Order:
    """The engine to become: its command line after the module's name, and what goes with it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"


def decode(line: bytes) -> Order:
    """The order in one line. Raises ValueError."""
    told = orjson.loads(line)
    return Order(tuple(told["argv"]), dict(told["env"]), told["cwd"])


def early(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The part of an environment that a standby must have been started with."""
    return tuple(sorted((name, value) for name, value in env.items() if name not in LATE))


def await_order() -> Order:
    """In a standby: say that it is warm, and wait on standard input for what to become.

    Ends the process where the other end closes the line without an order.
    """
    with socket.socket(fileno=os.dup(0)) as line:
        line.sendall(WARM)
        told = b""
        while not told.endswith(b"\n"):
            piece = line.recv(65536)
            if not piece or len(told) > ORDER_MAX_BYTES:
                sys.exit(0)
            told += piece
    return decode(told)


def become(order: Order) -> None:
    """In a standby: take on the order's command line, environment and directory."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    for name in LATE & os.environ.keys():
        del os.environ[name]
    os.environ.update(order.env)
    os.chdir(order.cwd)
    tempfile.tempdir = None  # it may have been looked up already
    sys.argv[1:] = order.argv
