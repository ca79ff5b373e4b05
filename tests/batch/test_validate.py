"""What is wrong with an input file, by the number of its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve.batch.validate import ERRORS_MAX, Checked, check
from serve.settings.batches import Batches

URL = "/v1/chat/completions"
LINE_MAX_BYTES = 1000


def checked(path: Path, data: bytes | str, **settings: Any) -> Checked:
    path = path / "in.jsonl"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return check(path, URL, Batches(**settings), LINE_MAX_BYTES)


def line(custom_id: Any = "a", **change: Any) -> str:
    request = {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": "m"}}
    return json.dumps({**request, **change})


def faults(found: Checked) -> list[tuple[int | None, str, str | None]]:
    return [(one["line"], one["code"], one["param"]) for one in found.errors]


def test_lines_are_found_again_by_their_place(tmp_path: Path) -> None:
    data = "\n".join([line("ä"), "  ", line("b", body={"model": "n"})]) + "\r\n\n"
    found = checked(tmp_path, data)
    assert found.errors == []
    assert [(one.number, one.custom_id) for one in found.lines] == [(1, "ä"), (3, "b")]
    raw = (tmp_path / "in.jsonl").read_bytes()
    for one in found.lines:
        assert json.loads(raw[one.place :][: one.size_bytes])["custom_id"] == one.custom_id
    assert found.models == {"m", "n"}


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[]", "invalid_json_line", None),
        ('{"a": NaN}', "invalid_json_line", None),
        ("{}", "missing_required_parameter", "custom_id"),
        (line(None), "invalid_type", "custom_id"),
        (line(""), "invalid_custom_id", "custom_id"),
        (line("x" * 513), "invalid_custom_id", "custom_id"),
        (line("\0"), "invalid_custom_id", "custom_id"),
        (line("first"), "duplicate_custom_id", "custom_id"),
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/completions"), "mismatched_endpoint", "url"),
        (line(url=None), "invalid_type", "url"),
        (line(body=[]), "invalid_type", "body"),
        (line(body={"x": "y" * LINE_MAX_BYTES}), "line_too_large", None),
    ],
)
def test_a_bad_line(tmp_path: Path, bad: str, code: str, param: str | None) -> None:
    found = checked(tmp_path, "\n".join([line("first"), bad, line("last")]))
    assert faults(found) == [(2, code, param)]
    assert [one.number for one in found.lines] == [1, 3]


def test_bad_utf_8(tmp_path: Path) -> None:
    found = checked(tmp_path, line("a").encode() + b'\n{"custom_id": "\xff"}')
    assert faults(found) == [(2, "invalid_json_line", None)]
    assert "UTF-8" in found.errors[0]["message"]


@pytest.mark.parametrize("data", ["", "\n\n \t\r\n"])
def test_an_empty_file(tmp_path: Path, data: str) -> None:
    assert faults(checked(tmp_path, data)) == [(None, "empty_file", None)]


def test_too_many_lines(tmp_path: Path) -> None:
    data = "\n".join(line(str(number)) for number in range(4))
    assert checked(tmp_path, data, lines=4).errors == []
    assert faults(checked(tmp_path, data, lines=3)) == [(4, "too_many_requests", None)]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    found = checked(tmp_path, line("a" * 100), input_mib=1e-5)
    assert faults(found) == [(None, "file_too_large", None)]


def test_not_every_error_of_a_file_is_told(tmp_path: Path) -> None:
    assert len(checked(tmp_path, "{\n" * (ERRORS_MAX + 50)).errors) == ERRORS_MAX


def test_a_line_without_an_end_is_not_held(tmp_path: Path) -> None:
    found = checked(tmp_path, b"x" * 50 * LINE_MAX_BYTES + b"\n" + line("b").encode())
    assert faults(found) == [(1, "line_too_large", None)]
    assert found.lines[0].place == 50 * LINE_MAX_BYTES + 1
