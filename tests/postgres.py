"""A PostgreSQL server of our own, from the system's package, on a Unix socket only."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_TIMEOUT_S = 60
NOBODY_ELSE = "postgres"
"""PostgreSQL does not run as root; Debian's package makes this user for it."""


def binaries() -> Path | None:
    """The folder of the newest installed version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parts[-2]))
    return found[-1] if found else None


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The URL prefix of a server that ends with the context: add a database's name and `?…`."""
    user = NOBODY_ELSE if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    data = Path(tempfile.mkdtemp(prefix="inhouse-pg-"))
    if os.geteuid() == 0:
        shutil.chown(data, user)
    try:
        _run(folder / "initdb", "-D", data, "-U", "inhouse", "--auth=trust", user=user)
        options = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={data}")
        command = (folder / "postgres", "-D", data, *options)
        with subprocess.Popen(
            command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                _wait(data, server)
                yield str(data)
            finally:
                server.terminate()
    finally:
        shutil.rmtree(data, ignore_errors=True)


def create(socket: str, name: str) -> str:
    """A database that is empty, and its URL."""
    with psycopg.connect(host=socket, user="inhouse", dbname="postgres", autocommit=True) as admin:
        admin.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return f"postgresql://inhouse@/{name}?host={socket}"


def _run(*command: object, user: str) -> None:
    subprocess.run([str(one) for one in command], user=user, check=True, capture_output=True)


def _wait(data: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(host=str(data), user="inhouse", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
