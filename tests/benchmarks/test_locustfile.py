"""Locust itself, headless, against the stub: in one process, and with workers."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.paced import paced_stub

ROOT = Path(__file__).parents[2]
LOCUST = Path(sys.executable).parent / "locust"
FILE = ROOT / "benchmarks" / "load" / "locustfile.py"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with paced_stub(ttft_s=0.1, gap_s=0.01) as there:
        yield there


def locust(folder: Path, url: str, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [LOCUST, "-f", FILE, "--headless", "--host", url, "--only-summary", "--answer-tokens", "8",
         "--prompt-tokens", "16", "--result", "l.json", "--csv", "l", *words],
        capture_output=True, text=True, timeout=90, check=False, cwd=folder, env=os.environ | env,
    )  # fmt: skip


def result(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "l.json").read_text())
    return document


def counted(folder: Path) -> dict[str, int]:
    """Requests by Locust's own count, by the name of their users."""
    with (folder / "l_stats.csv").open() as file:
        return {row["Name"]: int(row["Request Count"]) for row in csv.DictReader(file)}


@pytest.mark.long
def test_workers_are_merged_into_one_result_and_one_event_is_a_request(
    tmp_path: Path, url: str
) -> None:
    done = locust(
        tmp_path, url, "--model", "stub", "--kinds", "chat,session", "--peak-users", "4",
        "--duration-s", "4", "--processes", "2",
    )  # fmt: skip
    document = result(tmp_path)
    assert document["schema"] == "inhouse.load/1" and document["driver"] == "locust"
    rows, counts = document["rows"], counted(tmp_path)
    assert done.returncode == (0 if document["valid"] else 1), done.stderr
    assert len(rows) == counts["Aggregated"] == counts["chat"] + counts["session"]
    assert min(counts.values()) > 0
    assert document["summary"]["outcomes"] == {"ok": len(rows)}
    assert all(row["first_token_s"] - row["sent_s"] >= 0.099 for row in rows)
    assert all(row["completion_tokens"] == row["token_chunks"] == 8 for row in rows)
    sessions = [row for row in rows if row["session"]]
    assert len(sessions) == counts["session"]
    prompts = sorted(row["prompt_tokens"] for row in sessions)
    assert prompts[-1] > prompts[0]  # a later turn carries those before it
    assert "closed loop" in document["verdict"] and "closed loop" in done.stdout


def test_a_target_that_refuses_ends_in_failures_and_exit_code_1(tmp_path: Path, url: str) -> None:
    done = locust(
        tmp_path, url, "--model", "stub:quota", "--peak-users", "2", "--duration-s", "1.5",
        "--pace-s", "0.2", "--key-env", "KEY", KEY="sk-x",
    )  # fmt: skip
    document = result(tmp_path)
    assert done.returncode == 1
    assert "no request was answered: slow down" in document["verdict"]
    assert "quota: slow down" in (tmp_path / "l_failures.csv").read_text()
    assert set(document["summary"]["outcomes"]) == {"quota"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kinds", "chat,batch"), "give any of chat"),
        (("--key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY"),
    ],
)
def test_wrong_options_are_said_before_anything_is_asked(
    tmp_path: Path, url: str, words: tuple[str, ...], said: str
) -> None:
    done = locust(tmp_path, url, "--model", "stub", "--duration-s", "1", *words)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / "l.json").exists()
