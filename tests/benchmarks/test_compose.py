import random
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import orjson
import pytest

from benchmarks.load.arrivals import Process, offsets_s
from benchmarks.load.compose import Drawn, Replayed, drawn, replayed
from benchmarks.load.trace import NoTrace, arrivals
from serve.core.errors import SettingsError

ROOT = Path(__file__).parents[2]
TRACES = ROOT.parent / "shared" / "data" / "traces"


@pytest.mark.parametrize(
    ("process", "variation", "found"),
    [("poisson", 1.0, 1.0), ("gamma", 3.0, 3.0), ("gamma", 0.5, 0.5), ("constant", 1.0, 0.0)],
)
def test_gaps_have_the_mean_and_the_variation_asked_for(
    process: Process, variation: float, found: float
) -> None:
    offsets = offsets_s(process, 20_000, 4.0, random.Random(1), variation)
    gaps = [after - before for before, after in pairwise(offsets)]
    assert offsets[0] == 0.0
    assert fmean(gaps) == pytest.approx(0.25, rel=0.08)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(found, rel=0.08, abs=1e-9)


@pytest.mark.parametrize("bad", [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, 1.0, 0.0)])
def test_what_cannot_be_drawn_is_refused(bad: tuple[int, float, float]) -> None:
    with pytest.raises(SettingsError, match="above 0"):
        offsets_s("gamma", bad[0], bad[1], random.Random(1), bad[2])


def test_the_same_seed_draws_the_same_file() -> None:
    what = Drawn("poisson", 2.0, 5, prompt_tokens=12, answer_tokens=3, shared_tokens=4)
    one, same, other = drawn("a", what, 1), drawn("a", what, 1), drawn("a", what, 2)
    assert one == same
    assert one.heading.sha256 != other.heading.sha256
    texts = [each.messages[0].content.split() for each in one.requests]
    assert {len(text) for text in texts} == {12}
    assert len({tuple(text[:4]) for text in texts}) == 1
    assert len({tuple(text[4:]) for text in texts}) == 5


def mooncake(file: Path) -> Path:
    rows = [
        {"timestamp": 1000, "input_length": 1000, "output_length": 64, "hash_ids": [0, 1]},
        {"timestamp": 3000, "input_length": 1300, "output_length": 1, "hash_ids": [0, 1, 2]},
        {"timestamp": 4000, "input_length": 9000, "output_length": 9, "hash_ids": [0, 7]},
    ]
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return file


def test_mooncakes_prompts_share_their_blocks_and_keep_their_times(tmp_path: Path) -> None:
    what = Replayed(mooncake(tmp_path / "t.jsonl"), 9, rate_scale=2, tokens_a_block=16,
                    prompt_tokens_max=100)  # fmt: skip
    first, second = replayed("m", what, 1).requests
    assert (first.offset_s, second.offset_s) == (0.0, 1.0)
    words = [one.messages[0].content.split() for one in (first, second)]
    assert [len(each) for each in words] == [31, 41]
    assert words[1][:31] == words[0]
    assert (first.max_tokens, second.max_tokens) == (2, 1)
    assert first.session == second.session == "b1"


def test_azures_rows_have_a_clock_time_and_two_counts(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 23:59:59.5000000,37,4\n2023-11-17 00:00:01.0000000,5,2\n"
    )
    found = arrivals(file)
    assert [(one.offset_s, one.input_tokens, one.output_tokens) for one in found] == [
        (0.0, 37, 4),
        (pytest.approx(1.5), 5, 2),
    ]
    texts = [one.messages[0].content for one in replayed("a", Replayed(file, 9), 1).requests]
    assert [len(text.split()) for text in texts] == [37, 5]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "a,b\n", r"t\.csv:1: not the columns TIMESTAMP"),
        ("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nnow,1,2\n", r"t\.csv:2: not a time"),
        ("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"),
        ("t.jsonl", '{"timestamp": 1}', r"t\.jsonl:1: not a request"),
    ],
)
def test_another_format_is_refused_by_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(NoTrace, match=said):
        arrivals(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("AzureLLMInferenceTrace_code.csv", 8819),
        ("AzureLLMInferenceTrace_conv.csv", 19366),
        ("mooncake_conversation_trace.jsonl", 12031),
    ],
)
def test_the_public_traces_are_read_whole(name: str, count: int) -> None:
    if not (TRACES / name).is_file():
        pytest.skip(f"{TRACES / name} is not there: the public traces are no part of this project")
    found = arrivals(TRACES / name)
    assert len(found) == count
    assert min(one.offset_s for one in found) == 0.0
    assert all(one.input_tokens > 0 for one in found)
