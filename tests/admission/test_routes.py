import pytest
from pydantic import ValidationError

from serve.admission.routes import Choice, Facts, choose, holds
from serve.settings.routes import Route, Rule, When

ROUTE = Route(
    name="auto",
    rules=(
        Rule(name="long", model="large", when=When(prompt_chars_min=4000)),
        Rule(name="tools", model="medium", when=When(tools=True)),
        Rule(name="hard", model="large", when=When(reasoning_effort=("high", "xhigh"))),
        Rule(name="team", model="small:law", when=When(metadata={"team": "law"})),
    ),
    otherwise="small",
)


@pytest.mark.parametrize(
    ("facts", "rule", "model"),
    [
        (Facts(4000, False), "long", "large"),
        (Facts(4000, True), "long", "large"),
        (Facts(3999, True), "tools", "medium"),
        (Facts(1, False, "high"), "hard", "large"),
        (Facts(1, False, "low"), "otherwise", "small"),
        (Facts(1, False, None, {"team": "law", "x": "y"}), "team", "small:law"),
        (Facts(1, False, None, {"team": "hr"}), "otherwise", "small"),
        (Facts(0, False), "otherwise", "small"),
    ],
)
def test_the_first_rule_that_holds_decides(facts: Facts, rule: str, model: str) -> None:
    assert choose(ROUTE, facts) == Choice("auto", rule, model)


def test_everything_that_is_given_must_hold() -> None:
    when = When(prompt_chars_min=10, prompt_chars_max=20, tools=False)
    assert holds(when, Facts(10, False))
    assert holds(when, Facts(20, False))
    assert not holds(when, Facts(21, False))
    assert not holds(when, Facts(9, False))
    assert not holds(when, Facts(15, True))
    assert holds(When(), Facts(0, True, "low", {"a": "b"}))


def test_lengths_that_no_prompt_has_are_refused() -> None:
    with pytest.raises(ValidationError, match="no prompt is both"):
        When(prompt_chars_min=2, prompt_chars_max=1)
