"""What is kept of releases: the last site that was applied, and what its evaluations said.

Settings files are stored under the digest of them all; `last-good.json` names the ones that count
and takes its new content at once, so that there is a whole set at any moment.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from serve.release.evals import Result
from serve.settings.model import ServedModel

RESULTS_MAX: Final = 1000
"""Results that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """The last site that was applied: `site_file` is where it came from, `time` in UTC."""

    site_file: Path
    digest: str
    time: str
    texts: Mapping[Path, bytes]


def digest_of(texts: Mapping[Path, bytes]) -> str:
    """`sha256:…` of all settings files of a site, by their paths."""
    told = hashlib.sha256()
    for path in sorted(texts):
        told.update(f"{hashlib.sha256(texts[path]).hexdigest()}  {path}\n".encode())
    return f"sha256:{told.hexdigest()}"


class Archive:
    """The releases of one site, below `var_dir`. Every method blocks."""

    def __init__(self, var_dir: Path) -> None:
        self._directory = var_dir / "release"

    def keep(self, site_file: Path, texts: Mapping[Path, bytes]) -> str:
        """Make these files the last good ones; returns their digest. Raises OSError."""
        digest = digest_of(texts)
        stored = self._directory / "files" / digest.removeprefix("sha256:")
        if not stored.is_dir():
            part = self._directory / f"{os.getpid()}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True, mode=0o700)
            for number, path in enumerate(sorted(texts)):
                _write(part / str(number), texts[path])
            stored.parent.mkdir(exist_ok=True)
            part.replace(stored)
        about = {
            "site_file": str(site_file),
            "digest": digest,
            "time": _now(),
            "files": [str(path) for path in sorted(texts)],
        }
        self._put("last-good.json", about)
        for other in stored.parent.iterdir():
            if other != stored:
                shutil.rmtree(other, ignore_errors=True)
        return digest

    def last_good(self) -> LastGood | None:
        """The last good files; None where there are none yet, or they are damaged."""
        try:
            about = orjson.loads((self._directory / "last-good.json").read_bytes())
            stored = self._directory / "files" / about["digest"].removeprefix("sha256:")
            texts = {
                Path(path): (stored / str(number)).read_bytes()
                for number, path in enumerate(about["files"])
            }
            found = LastGood(Path(about["site_file"]), about["digest"], about["time"], texts)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return found if digest_of(texts) == found.digest else None

    def keep_result(self, model: ServedModel, fingerprint: str, result: Result) -> None:
        """Keep what an evaluation said, under what was evaluated. Raises OSError."""
        directory = self._directory / "evals"
        directory.mkdir(parents=True, exist_ok=True)
        config = orjson.dumps(model.config.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        about: dict[str, Any] = {
            "model": model.id,
            "time": _now(),
            "weights": model.config.source.digest,
            "config": f"sha256:{hashlib.sha256(config).hexdigest()}",
            "fingerprint": fingerprint,
            "eval_set": str(result.path),
            "eval_set_digest": result.digest,
            "passed": result.passed,
            "total": result.total,
            "threshold": result.threshold,
            "good": result.good,
            "took_s": round(result.took_s, 3),
            "failures": [asdict(one) for one in result.failures],
        }
        key = hashlib.sha256(f"{fingerprint} {about['config']} {result.digest}".encode())
        self._put(f"evals/{model.id}-{key.hexdigest()[:12]}.json", about)
        results = sorted(directory.glob("*.json"), key=lambda one: one.stat().st_mtime)
        for old in results[:-RESULTS_MAX]:
            old.unlink(missing_ok=True)

    def _put(self, name: str, about: Mapping[str, Any]) -> None:
        """A JSON file that is there whole or not at all."""
        path = self._directory / name
        part = path.with_suffix(f".{os.getpid()}.part")
        _write(part, orjson.dumps(about, option=orjson.OPT_INDENT_2))
        part.replace(path)


def _write(path: Path, data: bytes) -> None:
    """Write, and have it on the disk before anything else is done."""
    with path.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
