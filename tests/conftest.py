"""Servers that several test modules share. Everything listens on loopback only."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from serve import log
from serve.cli import main
from serve.store.address import address_of
from serve.store.database import Database
from tests import postgres as pg

START_TIMEOUT_S = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Gateway:
    """A gateway in a process of its own, and a client of it."""

    process: "subprocess.Popen[str]"
    port: int
    key: str
    var_dir: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def engine_pids(self) -> list[int]:
        """The children of the gateway."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def wait_ready(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended: {self.process.returncode}")
            try:
                if self.client.get("/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready within {timeout_s} s")

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


def start_gateway(
    var_dir: Path, *arguments: str, ready_timeout_s: float = START_TIMEOUT_S
) -> Gateway:
    """Run `inhouse <arguments> --port <free>` and wait until it answers."""
    port = free_port()
    var_dir.mkdir(parents=True, exist_ok=True)
    with (var_dir / "stdout.txt").open("w") as out, (var_dir / "stderr.txt").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve.cli", *arguments, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        )
    gateway = Gateway(process, port, _key(var_dir, process), var_dir)
    try:
        gateway.wait_ready(ready_timeout_s)
    except AssertionError as error:
        gateway.stop()
        raise AssertionError(f"{error}\n{(var_dir / 'stderr.txt').read_text()}") from None
    return gateway


def start_site(folder: Path, site: str, models: Mapping[str, str]) -> Gateway:
    """A server of a site without keys and its model files, each given as text by its name."""
    (folder / "models").mkdir()
    for name, text in models.items():
        (folder / "models" / f"{name}.yaml").write_text(text)
    (folder / "starter.key").write_text("none")  # what `start_gateway` waits for
    (folder / "site.yaml").write_text(site)
    return start_gateway(folder, "serve", "--site", str(folder / "site.yaml"))


def _key(var_dir: Path, process: "subprocess.Popen[str]") -> str:
    path = var_dir / "starter.key"
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if path.exists() and (key := path.read_text().strip()):
            return key
        select.select([], [], [], 0.02)
    return "none"


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Inhouse = Callable[..., Ran]


@pytest.fixture
def inhouse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Inhouse]:
    """Runs `inhouse <words>` in this process: starting one for each takes a second or two."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, log._direct

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["inhouse", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    yield run
    # `serve` sets logging up for its process, which is this one.
    root.handlers[:], root.level, log._direct = before


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway over a fake engine that answers at once; tests leave it as they found it."""
    var_dir = tmp_path_factory.mktemp("gateway")
    running = start_gateway(
        var_dir, "dev", "--ttft-ms", "0", "--tpot-ms", "0", "--var-dir", str(var_dir)
    )
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The socket folder of a PostgreSQL server of our own."""
    folder = pg.binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed here: apt install postgresql")
    with pg.running(folder) as socket_folder:
        yield socket_folder


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind, as a site file names it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/inhouse.db"
    return pg.create(request.getfixturevalue("postgres"), f"test_{uuid.uuid4().hex}")


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """The same, open, with its tables."""
    one = Database(address_of(database_url, tmp_path))
    one.open()
    yield one
    one.close()
