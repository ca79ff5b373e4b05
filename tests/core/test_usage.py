from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.responses import ResponseUsage

from serve.core.usage import Usage

COUNTS = st.none() | st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_parts_never_exceed_the_whole(
    prompt: int | None, completion: int | None, cached: int | None, reasoning: int | None
) -> None:
    usage = Usage.of_engine(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )
    parsed = CompletionUsage.model_validate(usage.openai())
    assert usage.cached <= usage.prompt
    assert usage.reasoning <= usage.completion
    assert parsed.total_tokens == usage.prompt + usage.completion


def test_the_usage_of_a_response() -> None:
    usage = Usage(3, 4, 2, 1) + Usage(10, 20, 0, 5)
    parsed = ResponseUsage.model_validate(usage.responses(), strict=True)
    assert (parsed.input_tokens, parsed.output_tokens, parsed.total_tokens) == (13, 24, 37)
    assert parsed.input_tokens_details.cached_tokens == 2
    assert parsed.output_tokens_details.reasoning_tokens == 6


def test_absent_details_are_zero() -> None:
    usage = Usage.of_engine({"prompt_tokens": 3, "prompt_tokens_details": None})
    assert (usage.prompt, usage.cached, usage.completion) == (3, 0, 0)
