"""Costs of regular expressions, and which are refused."""

import pytest

from serve.api.fields.patterns import PATTERN_MAX_CHARS, check_pattern
from serve.core.errors import InvalidRequest
from serve.core.patterns import Cost, cost_of


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("abc", Cost(3, nested=False)),
        (r"^\d{4}-\d{2}$", Cost(9, nested=False)),
        ("[a-z]+", Cost(1, nested=False)),
        ("[]a]{2}", Cost(2, nested=False)),
        ("[^]a]{2}", Cost(2, nested=False)),
        (r"[\]]{3}", Cost(3, nested=False)),
        (r"\({5}", Cost(5, nested=False)),
        ("(ab){3}", Cost(6, nested=False)),
        ("(?:a{10}){10}", Cost(100, nested=False)),
        ("(a+)+", Cost(1, nested=True)),
        ("(a|a)*", Cost(2, nested=True)),
        ("((a+))*", Cost(1, nested=True)),
        ("(a{1,}){2}", Cost(2, nested=True)),
        ("(a+)?", Cost(1, nested=False)),
        ("{2}", Cost(0, nested=False)),
        ("((a{99}){99}", Cost(9801, nested=False)),
    ],
)
def test_cost(pattern: str, cost: Cost) -> None:
    assert cost_of(pattern) == cost


@pytest.mark.parametrize("pattern", ["(a{1000}){1000}", "a" * (PATTERN_MAX_CHARS + 1), "a\x00"])
def test_what_would_explode_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest):
        check_pattern(pattern, "p", matched_here=False)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(", "(?<n>a)", r"\p{L}"])
def test_what_this_process_matches_is_held_to_more(pattern: str) -> None:
    assert check_pattern(pattern, "p", matched_here=False) == pattern
    with pytest.raises(InvalidRequest) as caught:
        check_pattern(pattern, "p", matched_here=True)
    assert caught.value.param == "p"


def test_a_pattern_python_may_read_otherwise_is_no_warning() -> None:
    assert check_pattern("[[a]", "p", matched_here=True) == "[[a]"
