"""`inhouse bench` as it is typed, against the stub."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from serve.cli import main
from tests.benchmarks.paced import paced_stub

INVALID_KEY = {"API_KEY": "sk-secret"}


class Done(NamedTuple):
    """As of `subprocess`: what was printed, and the exit code."""

    returncode: int
    stdout: str
    stderr: str


def inhouse(cwd: Path, *words: str, **env: str) -> Done:
    """Run in this process: each start of another takes longer than what is tested."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["inhouse", "bench", *words])
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with paced_stub(ttft_s=0.05, gap_s=0.005) as there:
        yield there


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bench")
    done = inhouse(
        made, "workload", "w.jsonl", "--rate", "200", "--requests", "80", "--answer-tokens", "4"
    )
    assert done.returncode == 0, done.stderr
    return made


def run(folder: Path, url: str, out: str, *more: str, model: str = "stub") -> Done:
    return inhouse(
        folder, "run", "w.jsonl", "--url", url, "--model", model, "--out", out, *more, **INVALID_KEY
    )


def test_two_runs_and_how_they_compare(folder: Path, url: str) -> None:
    for name in ("a.json", "b.json"):
        done = run(folder, url, name, "--ttft-ms", "500", "--tpot-ms", "500", "--key-env",
                   "API_KEY")  # fmt: skip
        document = json.loads((folder / name).read_text())
        assert document["schema"] == "inhouse.load/1"
        assert document["summary"]["outcomes"] == {"ok": 80}
        assert document["summary"]["goodput"]["attainment"] == 1.0
        assert "sk-secret" not in json.dumps(document) and "sk-secret" not in done.stdout
        assert done.returncode == (0 if document["valid"] else 1)
        assert done.stdout.startswith("valid" if document["valid"] else "INVALID (client-bound")
    done = inhouse(folder, "compare", "a.json", "b.json", "--tolerance", "1000", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == {"pass": 0, "fail": 1, "inconclusive": 4}[found["judgement"]]
    assert {one["judgement"] for one in found["findings"]} == {"pass"}


@pytest.mark.parametrize(
    ("manner", "said"),
    [("quota", "slow down"), ("html", "Please log in"), ("cut", "no request was answered")],
)
def test_a_bad_target_has_its_verdict_and_its_rows(
    folder: Path, url: str, manner: str, said: str
) -> None:
    done = run(folder, url, f"{manner}.json", model=f"stub:{manner}")
    assert done.returncode == 1
    assert done.stdout.startswith("INVALID") and said in done.stdout
    document = json.loads((folder / f"{manner}.json").read_text())
    assert len(document["rows"]) == 80
    assert document["summary"]["ttft"]["p50"] == "Infinity"


def test_a_capture_is_a_signed_run(folder: Path, url: str) -> None:
    words = ("capture", "w.jsonl", "--url", url, "--model", "stub", "--out", "signed.json")
    done = inhouse(folder, *words)
    assert (done.returncode, "inhouse bench key" in done.stderr) == (2, True)
    assert not (folder / "signed.json").exists()
    assert inhouse(folder, "key", "made.key").returncode == 0
    done = inhouse(folder, *words, "--sign", "made.key")
    assert done.returncode in (0, 1), done.stderr
    done = inhouse(
        folder, "compare", "signed.json", "signed.json", "--pinned", "made.key.pub", "--json"
    )
    assert json.loads(done.stdout)["findings"][0]["ratio"] == 1.0
    assert "signed by made.key.pub" in done.stderr


def test_a_sweep_keeps_every_rate_and_run(folder: Path, url: str) -> None:
    done = inhouse(
        folder, "sweep", "w.jsonl", "--url", url, "--model", "stub", "--ttft-ms", "1",
        "--tpot-ms", "500", "--from", "200", "--to", "400", "--repeats", "2", "--out", "s.json",
    )  # fmt: skip
    document = json.loads((folder / "s.json").read_text())
    assert done.returncode == 1
    # The second where this machine does other things meanwhile.
    assert document["ending"] in ("never held", "client-bound")
    assert "held none, did not hold 200/s" in done.stdout
    assert [one["met"] for one in document["rates"]] == [0]
    assert len({one["salt"] for one in document["runs"]}) == 2
    assert [len(one["rows"]) for one in document["runs"]] == [80, 80]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--slo", "fast"), 2, "llama3.1-8b:interactive"),
        (("--ttft-ms", "5"), 2, "both --ttft-ms and --tpot-ms"),
        (("--slo", "llama2-70b:server", "--ttft-ms", "5"), 2, "not both"),
        (("--key-env", "NO_SUCH_KEY"), 3, "NO_SUCH_KEY is not set"),
        (("--rate", "0"), 2, "above 0"),
        (("--selfcheck", "w.jsonl"), 2, "inhouse bench selfcheck"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, url: str, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run(folder, url, "none.json", *words)
    assert done.returncode == code
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "none.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("workload", "x.jsonl", "--fields", "{"), "not JSON"),
        (("workload", "x.jsonl", "--fields", "[]"), "give an object"),
        (("workload", "x.jsonl", "--trace", "none.csv"), "no trace at none.csv"),
        (("workload", "x.jsonl", "--rate", "0"), "above 0"),
        (("compare", "w.jsonl", "w.jsonl"), "inhouse bench run"),
    ],
)
def test_a_bad_file_or_option_is_named(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = inhouse(folder, *words)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_ceiling_marks_what_is_above_half_of_it(folder: Path, url: str) -> None:
    """The ceiling is found by the command, then written down to a tenth of what the run needs."""
    done = inhouse(folder, "selfcheck", "--step-s", "1", "--rate-max", "2500")
    file = folder / "bench" / "selfcheck.json"
    document = json.loads(file.read_text())
    assert done.returncode == (0 if document["ceiling_chunks_per_s"] else 1)
    assert {one["asked_chunks_per_s"] for one in document["steps"]} == {2500}
    file.write_text(json.dumps(document | {"ceiling_chunks_per_s": 20.0}))
    done = run(folder, url, "c.json")
    assert done.returncode == 1
    assert "more than half of its ceiling of 20" in done.stdout
    other = document["machine"] | {"cpu": "another"}
    file.write_text(json.dumps(document | {"ceiling_chunks_per_s": 20.0, "machine": other}))
    assert "ceiling is not known here" in run(folder, url, "d.json").stdout
