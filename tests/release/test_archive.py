"""What is kept of releases survives what may happen to a disk."""

from pathlib import Path

import orjson
import pytest

from serve.release.archive import RESULTS_MAX, Archive, digest_of
from serve.release.evals import Failure, Result
from serve.settings.model import ModelConfig, ServedModel, Source

SITE = Path("/etc/site.yaml")
TEXTS = {SITE: b"site: t\n", Path("/etc/models/a.yaml"): b"name: a\n"}


def test_the_last_one_that_was_kept_is_found(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert archive.last_good() is None
    archive.keep(SITE, {SITE: b"site: old\n"})
    digest = archive.keep(SITE, TEXTS)
    kept = Archive(tmp_path).last_good()
    assert kept is not None
    assert (kept.site_file, kept.digest, kept.texts) == (SITE, digest, TEXTS)
    assert kept.digest == digest_of(TEXTS)
    assert kept.time.endswith("+00:00")
    assert len(list((tmp_path / "release" / "files").iterdir())) == 1
    assert archive.keep(SITE, TEXTS) == digest


def test_a_damaged_one_is_none(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    digest = archive.keep(SITE, TEXTS).removeprefix("sha256:")
    stored = tmp_path / "release" / "files" / digest / "0"
    stored.write_bytes(b"name: b\n")
    assert archive.last_good() is None
    stored.unlink()
    assert archive.last_good() is None
    about = tmp_path / "release" / "last-good.json"
    for damage in (b"", b"[]", b'{"digest": 1}', about.read_bytes()[:-5]):
        about.write_bytes(damage)
        assert archive.last_good() is None


def test_a_write_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    archive.keep(SITE, TEXTS)
    before = archive.last_good()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            archive.keep(SITE, {SITE: b"site: new\n"})
    assert archive.last_good() == before
    archive.keep(SITE, {SITE: b"site: new\n"})


def result(digest: str = "sha256:1") -> Result:
    failed = Failure(3, None, 'exact "a"', "b")
    return Result(Path("/e.jsonl"), digest, 4, 3, 0.5, (failed,), 1.25)


def test_results_are_kept_under_what_was_evaluated(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    model = ServedModel(
        config=ModelConfig(name="a", source=Source(path=Path("none")), context_tokens=100)
    )
    archive.keep_result(model, "fp_1", result())
    archive.keep_result(model, "fp_1", result())
    archive.keep_result(model, "fp_2", result())
    archive.keep_result(model, "fp_2", result("sha256:2"))
    files = sorted((tmp_path / "release" / "evals").iterdir())
    assert len(files) == 3
    kept = orjson.loads(files[0].read_bytes())
    assert (kept["model"], kept["passed"], kept["total"], kept["good"]) == ("a", 3, 4, True)
    assert kept["failures"] == [{"line": 3, "name": None, "expected": 'exact "a"', "got": "b"}]
    assert RESULTS_MAX > 3
