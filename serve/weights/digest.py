"""Digest and inspection of a model directory.

The digest is SHA-256 over one line per file, `<sha256 of content>  <relative name>\\n`, sorted
by name: what `sha256sum` prints, so that anyone can check it without this program.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import orjson

from serve.core.errors import SettingsError

MANIFEST: Final = "inhouse-digest.json"
CODE_SUFFIXES: Final = frozenset({".py", ".pyc", ".so", ".sh"})
PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".gguf"})

Progress = Callable[[int], None]
"""Called with the number of bytes just read."""


def files_of(directory: Path) -> list[Path]:
    """The regular files below a directory, sorted by relative name, the manifest left out."""
    return sorted(
        (p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST),
        key=lambda p: p.relative_to(directory).as_posix(),
    )


def digests_of(directory: Path, progress: Progress | None = None) -> dict[str, str]:
    """Relative name → SHA-256 of each file."""
    files = files_of(directory)
    with ThreadPoolExecutor(max_workers=4) as pool:
        sums = list(pool.map(lambda path: _sha256(path, progress), files))
    return {p.relative_to(directory).as_posix(): s for p, s in zip(files, sums, strict=True)}


def combined(digests: dict[str, str]) -> str:
    """The one digest of a directory's files: `sha256:<hex>`."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def write_manifest(directory: Path, progress: Progress | None = None) -> str:
    """Digest a directory, write the manifest beside the files and return the digest."""
    digests = digests_of(directory, progress)
    digest = combined(digests)
    body = orjson.dumps({"digest": digest, "files": digests}, option=orjson.OPT_INDENT_2)
    (directory / MANIFEST).write_bytes(body)
    return digest


def inspect(directory: Path) -> None:
    """Refuse a directory that is missing, not whole, or holds anything but data.

    Raises SettingsError that names the file and why: code beside weights (CVE-2026-22807),
    pickles, links that leave the directory, a configuration that asks for remote code.
    """
    if not (directory / "config.json").is_file():
        raise SettingsError(
            f"{directory}: no model here (config.json is missing); put the weights there or "
            "correct source.path"
        )
    root = directory.resolve()
    for path in directory.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise SettingsError(f"{path}: a link that leaves the model's directory is refused")
        if path.suffix in CODE_SUFFIXES:
            raise SettingsError(f"{path}: code beside weights is refused; remove it")
        if path.suffix in PICKLE_SUFFIXES:
            raise SettingsError(f"{path}: only safetensors are opened; convert or remove it")
    if not any(directory.glob("*.safetensors")):
        raise SettingsError(f"{directory}: no *.safetensors file here")
    _refuse_remote_code(directory)


def verify(directory: Path, expected: str, progress: Progress | None = None) -> None:
    """Check every byte against the expected digest; raises SettingsError naming what differs."""
    found = digests_of(directory, progress)
    if combined(found) == expected:
        return
    raise SettingsError(
        f"{directory}: digest mismatch: expected {expected}, found {combined(found)}"
        f"{_difference(directory, found, expected)}. Restore the files, or set source.digest "
        "to the new value if the change is intended"
    )


def _difference(directory: Path, found: dict[str, str], expected: str) -> str:
    try:
        manifest = orjson.loads((directory / MANIFEST).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return ""
    if manifest.get("digest") != expected:
        return ""
    known: dict[str, str] = manifest["files"]
    changed = sorted(
        name for name in known.keys() | found.keys() if known.get(name) != found.get(name)
    )
    return f" (changed, missing or added: {', '.join(changed[:5])})"


def _refuse_remote_code(directory: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = directory / name
        if not path.is_file():
            continue
        try:
            config = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise SettingsError(f"{path}: not valid JSON ({error})") from None
        if isinstance(config, dict) and "auto_map" in config:
            raise SettingsError(f"{path}: asks for remote code (auto_map), which is refused")


def _sha256(path: Path, progress: Progress | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()
