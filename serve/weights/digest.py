"""Digest and inspection of a model directory.

The digest is SHA-256 over one line per file, `<sha256 of content>  <relative name>\\n`, sorted
by name: what `sha256sum` prints, so that anyone can check it without this program. Folders whose
name starts with a dot do not count: download tools keep times and locks there.
"""

import hashlib
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import orjson

from serve.core.errors import SettingsError

MANIFEST: Final = "inhouse-digest.json"
CODE_SUFFIXES: Final = frozenset({".py", ".pyc", ".so", ".sh"})
PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".gguf"})
INDEX: Final = "model.safetensors.index.json"
BLOCK_BYTES: Final = 1 << 20
THREADS_MAX: Final = 4

Progress = Callable[[int], None]
"""Called with the number of bytes just read, from several threads."""


def files_of(directory: Path) -> list[Path]:
    """The files that the digest covers, sorted by relative name."""
    named = {path.relative_to(directory): path for path in directory.rglob("*") if path.is_file()}
    covered = {
        name: path
        for name, path in named.items()
        if name != Path(MANIFEST) and not any(part.startswith(".") for part in name.parts[:-1])
    }
    return [covered[name] for name in sorted(covered, key=Path.as_posix)]


def digests_of(directory: Path, progress: Progress | None = None) -> dict[str, str]:
    """Relative name → SHA-256 of each file."""
    files = files_of(directory)
    with ThreadPoolExecutor(max_workers=THREADS_MAX) as pool:
        sums = list(pool.map(lambda path: _sha256(path, progress), files))
    return {p.relative_to(directory).as_posix(): s for p, s in zip(files, sums, strict=True)}


def combined(digests: dict[str, str]) -> str:
    """The one digest of a directory's files: `sha256:<hex>`."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def digest_of(directory: Path, progress: Progress | None = None) -> str:
    """Read every file of a directory and return its digest, `sha256:<hex>`."""
    return combined(digests_of(directory, progress))


def write_manifest(directory: Path, progress: Progress | None = None) -> str:
    """Digest a directory, write the manifest beside the files and return the digest."""
    digests = digests_of(directory, progress)
    digest = combined(digests)
    body = orjson.dumps({"digest": digest, "files": digests}, option=orjson.OPT_INDENT_2)
    (directory / MANIFEST).write_bytes(body)
    return digest


def manifest_digest(directory: Path) -> str | None:
    """The digest that a directory's manifest tells of, None where it has no manifest.

    Raises SettingsError where it has one that cannot be read.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    manifest = _json(path)
    digest = manifest.get("digest") if isinstance(manifest, dict) else None
    if not isinstance(digest, str):
        raise SettingsError(f"{path}: tells of no digest; run `inhouse digest {directory}` again")
    return digest


def verify(
    directory: Path,
    expected: str,
    progress: Progress | None = None,
    *,
    renew: str = "set source.digest",
) -> None:
    """Check every byte against the expected digest; raises SettingsError naming what differs.

    `renew` says what to do where they were changed on purpose.
    """
    found = digests_of(directory, progress)
    if combined(found) == expected:
        return
    raise SettingsError(
        f"{directory}: digest mismatch: expected {expected}, found {combined(found)}"
        f"{_difference(directory, found, expected)}. Restore the files, or {renew} "
        "if you changed them on purpose"
    )


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
        refuse_unsafe(path, root)
    if not any(directory.glob("*.safetensors")):
        raise SettingsError(f"{directory}: no *.safetensors file here")
    for path in directory.rglob("*config.json"):
        if "auto_map" in _keys(_json(path)):
            raise SettingsError(f"{path}: asks for remote code (auto_map), which is refused")
    _refuse_missing_shards(directory)


def refuse_unsafe(path: Path, root: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise SettingsError(
            f"{path}: a link that leaves the model's directory is refused; copy the file itself "
            "(cp -L)"
        )
    if not path.exists():
        raise SettingsError(f"{path}: a link to nothing; copy the model again")
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise SettingsError(f"{path}: neither a file nor a folder; remove it")
    if path.suffix.lower() in CODE_SUFFIXES:
        raise SettingsError(f"{path}: code beside weights is refused; remove it")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise SettingsError(f"{path}: only safetensors are opened; convert or remove it")


def _refuse_missing_shards(directory: Path) -> None:
    if not (directory / INDEX).is_file():
        return
    index = _json(directory / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    shards = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    missing = sorted(str(shard) for shard in shards if not (directory / str(shard)).is_file())
    if missing:
        raise SettingsError(
            f"{directory}: {missing[0]} is missing ({len(missing)} of {len(shards)} weight files); "
            "copy the model again"
        )


def _difference(directory: Path, found: dict[str, str], expected: str) -> str:
    """Which files differ, where the manifest beside them is of the expected digest."""
    try:
        manifest = orjson.loads((directory / MANIFEST).read_bytes())
        known: dict[str, str] = dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""
    if combined(known) != expected:
        return ""
    changed = sorted(
        name for name in known.keys() | found.keys() if known.get(name) != found.get(name)
    )
    return f" (changed, missing or added: {', '.join(changed[:5])})"


def _json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _keys(value: Any) -> Iterator[str]:
    """Every key at any depth: parts of a model have configurations of their own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _sha256(path: Path, progress: Progress | None) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                if progress is not None:
                    progress(len(block))
    except OSError as error:
        raise _unreadable(path, error) from None
    return digest.hexdigest()


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{path}: cannot be read ({error.strerror})")
