"""The text of a custom tool's call, however its arguments are cut."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.respond.custom import InputText


def fed(*parts: str) -> tuple[str, InputText]:
    reader = InputText()
    streamed = "".join(reader.feed(part) for part in parts)
    return streamed + reader.finish(), reader


@given(st.text(), st.lists(st.integers(0, 200)), st.booleans())
def test_any_cut_gives_the_text(text: str, cuts: list[int], ascii_only: bool) -> None:
    raw = json.dumps({"input": text}, ensure_ascii=ascii_only)
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    parts = [raw[a:b] for a, b in pairwise(places)]
    streamed, reader = fed(*parts)
    assert streamed == text
    assert reader.text == text


def test_text_comes_before_the_call_is_whole() -> None:
    reader = InputText()
    assert reader.feed('{"input": "ab') == "ab"
    assert reader.feed("\\") == ""
    assert reader.feed('nc"}') == "\nc"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("{}", ""),
        ('"plain"', "plain"),
        ('{"other": 1, "input": "x"}', "x"),
        ('{"cmd": "ls"}', '{"cmd": "ls"}'),
        ('{"input": 5}', "5"),
        ("not json", ""),
        ('{"input": "cut of', "cut of"),
        ('{"input": "raw\nline"}', "raw\nline"),
        ('{"input": "a\\qb"}', "a\\qb"),
        ('{"input": "\\ud83d"}', "\ufffd"),
    ],
)
def test_other_forms(raw: str, text: str) -> None:
    assert fed(raw)[0] == text
