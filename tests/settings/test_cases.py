"""Eval sets: which lines are questions, which answers will do, and what is refused where."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import SettingsError
from serve.settings.cases import Expected, read_cases
from serve.settings.evals import EvalSet

ASK = '{"role": "user", "content": "2 + 2?"}'


def line(expected: Any, **more: Any) -> str:
    return json.dumps({"messages": [json.loads(ASK)], "expected": expected} | more)


def written(folder: Path, *lines: str, **fields: Any) -> EvalSet:
    path = folder / "set.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return EvalSet(path=path, **fields)


def test_a_set_is_read_with_its_lines(tmp_path: Path) -> None:
    rows = ["# sums", line({"exact": "4"}, name="sum"), "", line({"regex": "4$"}, max_tokens=3)]
    read = read_cases(written(tmp_path, *rows))
    assert [(one.line, one.name, one.max_tokens) for one in read.cases] == [
        (2, "sum", 256), (4, None, 3),
    ]  # fmt: skip
    assert read.digest.startswith("sha256:")
    assert read_cases(written(tmp_path, *rows, "# more")).digest != read.digest


MET = [
    ({"exact": "4"}, " 4\n", True),
    ({"exact": "4"}, "4.", False),
    ({"regex": r"\b4\b"}, "It is 4, of course.", True),
    ({"regex": r"^4$"}, "It is 4", False),
    ({"choice": ["Four", "4"]}, " four. ", True),
    ({"choice": ["Four", "4"]}, "It is four", False),
    ({"json_schema": {"type": "object", "required": ["sum"]}}, '{"sum": 4}', True),
    ({"json_schema": {"type": "object", "required": ["sum"]}}, '{"sun": 4}', False),
    ({"json_schema": {"type": "object"}}, "```{}```", False),
    ({"json_schema": {"$ref": "https://elsewhere.example/s.json"}}, "{}", False),
    ({"json_schema": True}, "[" * 100_000, False),
]


@pytest.mark.parametrize(("expected", "answer", "met"), MET)
def test_answers(expected: dict[str, Any], answer: str, met: bool) -> None:
    assert Expected.model_validate_json(json.dumps(expected), strict=True).met_by(answer) is met


WRONG = [
    ("{", "not JSON"),
    ("[1]", "not a JSON object"),
    (line({"exact": "4"}, extra=1), "extra: unknown key"),
    (line({"exact": "4"}, line=1), "line: unknown key"),
    (line({"exact": "4", "regex": "4"}), "exactly one of"),
    (line({}), "exactly one of"),
    (line({"exact": 4}), r"expected\.exact: "),
    (line({"choice": []}), r"expected\.choice: "),
    (line({"regex": "("}), "regex: "),
    (line({"regex": "(a+)+b"}), "take for ever"),
    (line({"json_schema": {"type": "objekt"}}), "json_schema: "),
    (line({"json_schema": {"properties": {"a": {"pattern": "(a*)*"}}}}), "take for ever"),
    (line({"exact": "4"}, max_tokens=0), "max_tokens: "),
    ('{"expected": {"exact": "4"}}', "messages: "),
    ('{"messages": [], "expected": {"exact": "4"}}', "messages: "),
    ('{"messages": [{"role": "tool", "content": ""}], "expected": {"exact": "4"}}', "role: "),
    ("\xff", "not JSON"),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG)
def test_a_wrong_line_is_refused_by_its_number(tmp_path: Path, wrong: str, why: str) -> None:
    with pytest.raises(SettingsError, match=rf"set\.jsonl:2: .*{why}"):
        read_cases(written(tmp_path, line({"exact": "4"}), wrong))


def test_a_set_cut_at_any_byte_is_refused_or_shorter(tmp_path: Path) -> None:
    path = written(tmp_path, line({"exact": "4"}), line({"regex": "4"})).path
    whole = path.read_bytes()
    counts = set()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            counts.add(len(read_cases(EvalSet(path=path)).cases))
        except SettingsError as refused:
            assert str(path) in refused.message
    assert counts == {1, 2}


def test_a_set_has_questions_and_not_too_many(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no questions"):
        read_cases(written(tmp_path, "# none"))
    with pytest.raises(SettingsError, match="2 questions, max_cases is 1"):
        read_cases(written(tmp_path, *[line({"exact": "4"})] * 2, max_cases=1))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_cases(EvalSet(path=tmp_path / "none.jsonl"))
