from pathlib import Path

import orjson
import pytest

from benchmarks.load.trace import NoTrace, Sample, conversation, prompt, read, sampled

ROWS = [(0, 1), (0, 2, 3), (0, 1, 4), (0, 5), (0, 1, 4, 6, 7)]


def write(file: Path, *lines: bytes) -> Path:
    file.write_bytes(b"\n".join(lines))
    return file


def test_requests_are_read_in_their_order(tmp_path: Path) -> None:
    lines = [orjson.dumps({"timestamp": at, "hash_ids": ids}) for at, ids in enumerate(ROWS)]
    assert read(write(tmp_path / "t.jsonl", *lines)) == ROWS


def test_a_trace_that_is_not_there_is_named_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(NoTrace, match=r"no trace at .*t\.jsonl .*Mooncake.*--trace"):
        read(tmp_path / "t.jsonl")


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"no", b'{"hash_ids": "ab"}', b'{"hash_ids": 3}'])
def test_a_file_of_another_format_is_refused_by_line(tmp_path: Path, line: bytes) -> None:
    file = write(tmp_path / "t.jsonl", b'{"hash_ids": [1]}', line)
    with pytest.raises(NoTrace, match=r"t\.jsonl:2: not a request with hash_ids"):
        read(file)


def test_equal_beginnings_are_equal_text_and_others_are_not() -> None:
    first, second, other = (prompt(ids, 8) for ids in ((0, 1), (0, 1, 4), (0, 2, 3)))
    assert second.startswith(first + " ")
    assert len(second.split()) == 24
    assert other.split()[:8] == first.split()[:8]
    assert other.split()[8:16] != first.split()[8:16]
    assert prompt((0, 1), 8) == first


def test_conversations_are_taken_whole_but_for_what_is_too_long() -> None:
    rows = [(0, number, number + 1000, *range(turn)) for number in range(300) for turn in range(4)]
    sample = Sample(one_in=10, blocks_max=5, tokens_a_block=8)
    taken = sampled(rows, sample)
    names = {conversation(ids) for ids in taken}
    assert 15 < len(names) < 50
    assert taken == [ids for ids in rows if conversation(ids) in names and len(ids) <= 5]
