from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage

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


def test_absent_details_are_zero() -> None:
    usage = Usage.of_engine({"prompt_tokens": 3, "prompt_tokens_details": None})
    assert (usage.prompt, usage.cached, usage.completion) == (3, 0, 0)
