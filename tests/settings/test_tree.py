from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve.settings.tree import DEPTH_MAX, FILE_KIB_MAX, Node, Problem, parse, read


def parsed(text: str, **env: str) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    node = parse(text, "f.yaml", env, problems)
    return (node.plain() if node else None), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-12", -12),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("", None),
        # YAML 1.1 would make a switch, a time of day and a date of these.
        ("on", "on"),
        ("8:30", "8:30"),
        ("2026-11-01", "2026-11-01"),
        ("'1'", "1"),
        ('"true"', "true"),
        # Neither infinity nor a number of a million digits.
        ("1e999", "1e999"),
        ("9" * 40, "9" * 40),
        (".inf", ".inf"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parsed(f"k: {text}") == ({"k": value}, [])


def test_values_stand_at_the_line_of_their_key() -> None:
    problems: list[Problem] = []
    node = parse("a:\n  b:\n    - 1\n    - c:\n        2\n", "f.yaml", {}, problems)
    assert node is not None
    assert node.nearest(("a",)).line == 1
    assert node.nearest(("a", "b")).line == 2
    assert node.nearest(("a", "b", 1, "c")).line == 4
    assert node.nearest(("a", "b", 1, "c", "nothing")).line == 4


def test_every_problem_is_reported_at_once() -> None:
    _, problems = parsed("a: 1\na: 2\nb: &x 3\nc: *x\nd: !!python/name:os.system\n? [1]\n: 2\n")
    assert [problem.split(": ")[0] for problem in problems] == [
        "f.yaml:2", "f.yaml:3", "f.yaml:4", "f.yaml:5", "f.yaml:6",
    ]  # fmt: skip
    assert 'key "a" is given twice, first on line 1' in problems[0]
    assert "anchors and aliases" in problems[1]
    assert "tags are not supported" in problems[3]


def test_an_expanding_document_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    value, problems = parsed("\n".join(lines))
    assert value is None
    assert len(problems) > 1


def test_nesting_is_bounded() -> None:
    deepest = DEPTH_MAX - 1
    assert parsed("k: " + "[" * deepest + "]" * deepest)[1] == []
    value, problems = parsed("k: " + "[" * 100_000)
    assert value is None
    assert problems == [f"f.yaml:1: nested more than {DEPTH_MAX} levels deep"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "f.yaml:1: not valid YAML"),
        ("a: 1\n b: 2", "f.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second YAML document"),
        ("", "f.yaml: the file is empty"),
        ("# only a comment", "f.yaml: the file is empty"),
        ('a: "\\UFFFFFFFF"', "f.yaml:1: not valid YAML"),
        ('a: "\\ud800"', "f.yaml:1: a control character in a value"),
        ('a: "\\0"', "f.yaml:1: a control character in a value"),
        ("a: 1\nb: \x07", "f.yaml:2: not valid YAML: a control character"),
    ],
)
def test_what_is_not_yaml_says_where(text: str, said: str) -> None:
    value, problems = parsed(text)
    assert value is None
    assert problems
    assert problems[0].startswith(said)


def test_variables_come_from_the_environment_given() -> None:
    value, problems = parsed("p: ${DIR}/x\nn: ${PORT}", DIR="/srv", PORT="80")
    assert (value, problems) == ({"p": "/srv/x", "n": 80}, [])
    assert parsed("p: ${DIR}")[1] == ["f.yaml:1: the environment variable DIR is not set"]


def test_a_file_is_bounded_and_utf8(tmp_path: Any) -> None:
    problems: list[Problem] = []
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (FILE_KIB_MAX * 1024 + 1))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    for file in (large, latin, tmp_path, tmp_path / "absent"):
        assert read(file, {}, problems) is None
    said = [problem.text for problem in problems]
    assert said[0] == f"larger than {FILE_KIB_MAX} KiB; not a settings file"
    assert problems[1].line == 2
    assert said[1] == "not UTF-8 text"
    assert said[2] == "cannot be read: Is a directory"
    assert said[3] == "cannot be read: No such file or directory"


def test_overriding_joins_mappings_and_replaces_the_rest() -> None:
    problems: list[Problem] = []
    below = parse("a: {x: 1, y: 2}\nb: [1, 2]\nc: 3", "below", {}, problems)
    over = parse("a: {y: 9}\nb: [7]\n", "over", {}, problems)
    assert below is not None
    assert over is not None
    joined = below.overridden(over.entries())
    assert joined.plain() == {"a": {"x": 1, "y": 9}, "b": [7], "c": 3}
    assert joined.nearest(("a", "x")).file == "below"
    assert joined.nearest(("a", "y")).file == "over"


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#,?\n \t\\x0U$~.1"), max_size=60))
def test_no_text_gives_more_than_problems(text: str) -> None:
    problems: list[Problem] = []
    node = parse(text, "f.yaml", {}, problems)
    assert (node is None) == bool(problems)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc ", max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    problems: list[Problem] = []
    node = parse(yaml.safe_dump({"k": value}, default_flow_style=True), "f.yaml", {}, problems)
    assert problems == []
    assert isinstance(node, Node)
    assert node.plain() == {"k": value}
