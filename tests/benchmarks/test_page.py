"""The commands of docs/benchmarks.md run as they stand there, in their order, against a stub."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load.metrics import PRESETS, preset
from tests.benchmarks.paced import paced_stub
from tests.cli.test_bench import inhouse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("inhouse ")]
"""`make` is test_docs' business."""
SHORTER = {
    # The page's own take a minute each; the last of an option is the one that counts.
    "selfcheck": ("--step-s", "1", "--rate-max", "2500"),
    "workload": ("--requests", "80", "--rate", "100", "--answer-tokens", "4"),
    "sweep": ("--from", "90", "--to", "100", "--repeats", "1"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with paced_stub(ttft_s=0.05, gap_s=0.005) as there:
        yield there


def test_the_commands_run_in_their_order(tmp_path: Path, url: str) -> None:
    (tmp_path / "shared").symlink_to(ROOT.parent / "shared")
    folder = tmp_path / "here"
    folder.mkdir()
    done = []
    for command in COMMANDS:
        program, bench, name, *words = shlex.split(command)
        assert (program, bench) == ("inhouse", "bench")
        if "--trace" in words and not (folder / words[words.index("--trace") + 1]).exists():
            continue
        words = [url if word == "http://127.0.0.1:8000/v1" else word for word in words]
        ended = inhouse(folder, name, *words, *SHORTER.get(name, ()), INHOUSE_KEY="sk-x")
        # 1 and 4 are verdicts, which a machine that does other things may give.
        assert ended.returncode in (0, 1, 4), f"{command}: {ended.stderr}"
        assert ended.stdout, command
        done.append(name)
    assert {"selfcheck", "workload", "run", "compare", "sweep"} <= set(done)
    assert (folder / "before.json").is_file() and (folder / "bench" / "selfcheck.json").is_file()


def test_every_preset_is_on_the_page() -> None:
    for name in PRESETS:
        model, _, scenario = name.partition(":")
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{model}:"))
        shown = row.split("|")[2].split(";")[scenario == "interactive"].strip()
        asked = preset(name)
        assert shown == f"{asked.ttft_s * 1000:.0f}, {asked.tpot_s * 1000:.0f} ms"
