"""The servers of `benchmarks/gateway.py`: the bare backend, Inhouse, and two peers.

Each listens on loopback and answers the same requests from the same fake engine.
"""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from benchmarks.load.cpu import pin, tree
from benchmarks.load.http import Address, ask, post
from benchmarks.load.sse import Splitter, token_text, usage_of

GATEWAY_CORE: Final = 0
LOAD_CORE: Final = 1
"""The core of the client and of every backend."""

START_TIMEOUT_S: Final = 90.0
ROOT: Final = Path(__file__).parent.parent
FAKE: Final = "serve.engines.fake"
CHAT: Final = "/v1/chat/completions"

QUIET: Final[Mapping[str, str]] = {
    # Peers as a closed site would run them: no telemetry, no price list, no hub.
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "PYTHONUNBUFFERED": "1",
}


class Unusable(Exception):
    """A contestant that did not start, or that does not relay."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Pace:
    """The fake engine's knobs."""

    tokens: int
    ttft_ms: float
    tpot_ms: float

    def arguments(self) -> tuple[str, ...]:
        return (
            f"--tokens={self.tokens}", f"--ttft-ms={self.ttft_ms}", f"--tpot-ms={self.tpot_ms}",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """How the contestants run: the backend's pace, and whether gateways have a core to themselves.

    Apart, a gateway is on one core and its load on another, so that a rate is a rate per gateway
    core; together, all share the cores that there are, as on a machine of this size they would.
    """

    pace: Pace
    apart: bool


@dataclass(slots=True)
class Contestant:
    """One running server: where it answers, and the processes that are the gateway."""

    name: str
    address: Address
    headers: dict[str, str] = field(default_factory=dict)
    pids: tuple[int, ...] = ()
    """The gateway's processes, without the backend's; empty for the bare backend."""
    process: "subprocess.Popen[bytes] | None" = None
    model: str = "fake"

    def chat(self, prompt: str, **fields: object) -> bytes:
        """A chat request's bytes."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "messages": messages, **fields}
        return post(CHAT, body, self.headers)


def absent(name: str) -> str | None:
    """Why a peer cannot be measured here; None if it can."""
    program = _peer_program(name)
    return None if program is None or program.is_file() else "make bench-peers"


def peer_version(name: str) -> str:
    """What pip installed into a peer's environment."""
    environment = ROOT / f".venv-peer-{name}"
    package = {"router": "vllm_router", "litellm": "litellm"}[name]
    found = sorted(environment.glob(f"lib/python3*/site-packages/{package}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else "unknown"


def _peer_program(name: str) -> Path | None:
    program = {"router": "vllm-router", "litellm": "litellm"}.get(name)
    return ROOT / f".venv-peer-{name}" / "bin" / program if program else None


class Field:
    """All contestants over fake engines of one pace; starts and stops them."""

    def __init__(self, stage: Stage, names: Sequence[str], directory: Path) -> None:
        self._pace = stage.pace
        shared = sorted(os.sched_getaffinity(0))
        self._gateway_cores = [GATEWAY_CORE] if stage.apart else shared
        self._load_cores = [LOAD_CORE] if stage.apart else shared
        self._names = names
        self._directory = directory
        self._backend_port = free_port()
        self.contestants: dict[str, Contestant] = {}

    async def __aenter__(self) -> "Field":
        self._cores_before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._load_cores)
        try:
            await self._start_all()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_all()
        os.sched_setaffinity(0, self._cores_before)

    async def _start_all(self) -> None:
        starters: dict[str, Callable[[int], Contestant]] = {
            "direct": self._direct,
            "inhouse": self._inhouse,
            "router": self._router,
            "litellm": self._litellm,
        }
        for name in self._names:
            port = self._backend_port if name == "direct" else free_port()
            contestant = starters[name](port)
            self.contestants[name] = contestant
            await _wait_until_it_answers(contestant, self._directory / f"{name}.log")
            if name == "inhouse":
                everything = tree(_pid(contestant))
                contestant.pids = tree(_pid(contestant), without=FAKE)
                pin(set(everything) - set(contestant.pids), self._load_cores)
            elif name != "direct":
                contestant.pids = tree(_pid(contestant))
            await check_relay(contestant)

    async def _stop_all(self) -> None:
        for contestant in reversed(self.contestants.values()):
            if contestant.process is not None:
                await asyncio.to_thread(_stop, contestant.process)

    def _direct(self, port: int) -> Contestant:
        command = (
            sys.executable, "-m", FAKE, "--port", str(port), "--outlive-parent",
            *self._pace.arguments(),
        )  # fmt: skip
        process = self._spawn("direct", command, self._load_cores)
        return Contestant("direct", ("127.0.0.1", port), process=process)

    def _inhouse(self, port: int) -> Contestant:
        var_dir = self._directory / "var"
        command = (
            sys.executable, "-m", "serve.cli", "dev", "--port", str(port), "--auth", "keys",
            "--var-dir", str(var_dir), *self._pace.arguments(),
        )  # fmt: skip
        process = self._spawn("inhouse", command, self._gateway_cores)
        key = _read_when_there(var_dir / "starter.key", process)
        return Contestant(
            "inhouse", ("127.0.0.1", port), {"authorization": f"Bearer {key}"}, process=process
        )

    def _router(self, port: int) -> Contestant:
        command = (
            str(_peer_program("router")), "--host", "127.0.0.1", "--port", str(port),
            "--worker-urls", f"http://127.0.0.1:{self._backend_port}",
            "--policy", "round_robin", "--prometheus-port", str(free_port()),
        )  # fmt: skip
        process = self._spawn("router", command, self._gateway_cores)
        return Contestant("router", ("127.0.0.1", port), process=process)

    def _litellm(self, port: int) -> Contestant:
        key = f"sk-{secrets.token_hex(16)}"
        backend = f"http://127.0.0.1:{self._backend_port}/v1"
        entry = {"model": "hosted_vllm/fake", "api_base": backend, "api_key": "none"}
        config = {
            "model_list": [{"model_name": "fake", "litellm_params": entry}],
            "general_settings": {"master_key": key},
        }
        path = self._directory / "litellm.yaml"
        path.write_bytes(orjson.dumps(config))  # JSON is YAML
        command = (
            str(_peer_program("litellm")), "--config", str(path), "--host", "127.0.0.1",
            "--port", str(port), "--num_workers", "1", "--telemetry", "False",
        )  # fmt: skip
        process = self._spawn("litellm", command, self._gateway_cores)
        return Contestant(
            "litellm", ("127.0.0.1", port), {"authorization": f"Bearer {key}"}, process=process
        )

    def _spawn(
        self, name: str, command: Sequence[str], cores: Sequence[int]
    ) -> "subprocess.Popen[bytes]":
        with (self._directory / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                ("taskset", "--cpu-list", ",".join(map(str, cores)), *command),
                cwd=ROOT, env={**os.environ, **QUIET}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


async def check_relay(contestant: Contestant) -> None:
    """See that an answer comes from the fake engine, whole, streamed and not.

    The fake is told to say a word made up now, so no cache and no canned answer can pass.
    """
    word = f"relay{secrets.token_hex(6)}"
    status, body = await ask(contestant.address, contestant.chat(f"fake:say={word}"), 30)
    answer = orjson.loads(body)["choices"][0]["message"]["content"] if status == 200 else body
    if answer != word:
        raise Unusable(contestant.name, f"answered {status} {answer[:300]!r}, not {word!r}")
    words = f"a_b_{word}"
    request = contestant.chat(
        f"fake:say={words}", stream=True, stream_options={"include_usage": True}
    )
    status, body = await ask(contestant.address, request, 30)
    payloads = Splitter().feed(body)
    text = "".join(token_text(one) or "" for one in payloads)
    usage = [found for one in payloads if (found := usage_of(one))]
    if status != 200 or text != words.replace("_", " ") or usage[-1]["completion_tokens"] != 3:
        raise Unusable(contestant.name, f"streamed {status} {text[:300]!r}, not {words!r}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _wait_until_it_answers(contestant: Contestant, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    request = contestant.chat("ready? fake:tokens=1")
    while time.monotonic() < deadline_s:
        if contestant.process is not None and contestant.process.poll() is not None:
            break
        try:
            status, _ = await ask(contestant.address, request, 10)
        except (OSError, TimeoutError):
            status = 0
        if status == 200:
            return
        await asyncio.sleep(0.1)
    raise Unusable(contestant.name, f"did not start: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:])[-600:]


def _pid(contestant: Contestant) -> int:
    assert contestant.process is not None
    return contestant.process.pid


def _read_when_there(path: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if path.is_file() and (text := path.read_text().strip()):
            return text
        time.sleep(0.05)
    return "none"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM; after ten seconds SIGKILL to the whole session."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
