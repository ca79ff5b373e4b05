"""Rules of /v1/completions, each with the path and code of its refusal."""

from typing import Any

import pytest

from serve.api.fields import check_completion, texts
from serve.api.fields.checked import Checked
from serve.core.errors import InvalidRequest
from serve.settings.site import Limits

LIMITS = Limits(choices=4, prompts=8)


def complete(**fields: Any) -> Checked:
    return check_completion({"model": "m", "prompt": "hi", **fields}, LIMITS)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "empty_string"),
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": [[]]}, "prompt[0]", "empty_array"),
        ({"prompt": ["a", ""]}, "prompt", "empty_string"),
        ({"prompt": ["a", 1]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, "a"]}, "prompt", "invalid_type"),
        ({"prompt": [1, True]}, "prompt", "invalid_type"),
        ({"prompt": [True]}, "prompt[0]", "invalid_type"),
        ({"prompt": [1, -1]}, "prompt", "integer_below_min_value"),
        ({"prompt": [[1], [2**31]]}, "prompt[1]", "integer_above_max_value"),
        ({"prompt": [[1], "a"]}, "prompt[1]", "invalid_type"),
        ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
        ({"prompt": ["a"] * 9}, "prompt", "array_above_max_length"),
        ({"prompt": ["a"] * 3, "n": 3}, "n", "invalid_value"),
        ({"n": 5}, "n", "integer_above_max_value"),
        ({"best_of": 2}, "best_of", "unsupported_value"),
        ({"n": 2, "best_of": 1}, "best_of", "unsupported_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"echo": 1}, "echo", "invalid_type"),
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"messages": []}, "messages", "unknown_parameter"),
    ],
)
def test_a_bad_value_is_refused_by_its_path(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        complete(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("prompt", "count", "said", "tokens"),
    [
        ("hé", 1, ["hé"], ()),
        (["a", "b"], 2, ["a", "b"], ()),
        ([1, 2, 3], 1, [], (3,)),
        ([[1, 2], [3]], 2, [], (2, 1)),
    ],
)
def test_every_kind_of_prompt_is_counted(
    prompt: Any, count: int, said: list[str], tokens: tuple[int, ...]
) -> None:
    checked = complete(prompt=prompt, n=2)
    assert checked.n == 2 * count
    assert checked.engine_body == {"prompt": prompt, "n": 2, "max_tokens": 16}
    assert list(texts(checked)) == said
    assert checked.prompts == tuple([text] for text in said)
    assert checked.token_prompts == tokens
    assert checked.prompt_bytes == sum(len(text.encode()) for text in said)


def test_a_prompt_alone_is_scored_with_echo() -> None:
    checked = complete(echo=True, max_tokens=0, logprobs=0)
    assert checked.engine_body == {"prompt": "hi", "echo": True, "max_tokens": 0, "logprobs": 0}
    assert checked.logprobs


def test_best_of_equal_to_n_changes_nothing() -> None:
    assert complete(n=3, best_of=3) == complete(n=3)
