from pathlib import Path

import pytest

from benchmarks.load.workload import Message, Planned, load, save, workload
from serve.core.errors import SettingsError


def planned(number: int, offset_s: float) -> Planned:
    messages = (Message(role="user", content=f"prompt {number} \u2028"),)
    return Planned(id=number, offset_s=offset_s, messages=messages, max_tokens=4)


THREE = workload("three", "salt", [planned(number, number * 0.5) for number in (2, 0, 1)])


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    save(tmp_path / "w.jsonl", THREE)
    assert load(tmp_path / "w.jsonl") == THREE
    assert [one.id for one in THREE.requests] == [0, 1, 2]


def test_the_rate_is_that_of_the_gaps() -> None:
    assert THREE.duration_s == 1.5
    assert THREE.rate_per_s == 2
    assert THREE.at_rate(4) == (0.0, 0.25, 0.5)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="above 0"):
        THREE.at_rate(0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"content":"prompt 1', '"content":"prompt 9', "sha256 differs"),
        ('"id":1', '"id":-1', r":3: id: .*greater than or equal to 0"),
        ('"offset_s":0.5', '"offset":0.5', r":3: offset_s: Field required"),
        ('"role":"user"', '"role":"me"', r":2: messages\.0\.role: "),
        ("inhouse.workload/1", "inhouse.workload/9", r":1: schema: "),
    ],
)
def test_a_changed_file_is_refused_by_line_and_field(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = tmp_path / "w.jsonl"
    save(file, THREE)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(SettingsError, match=said):
        load(file)


def test_a_missing_file_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="inhouse bench workload"):
        load(tmp_path / "none.jsonl")


def test_a_request_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="embeddings need texts"):
        Planned(id=0, offset_s=0, api="embeddings")
