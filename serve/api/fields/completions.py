"""`POST /v1/completions`: the table of its fields, and the rules between them."""

from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import chatshapes, checks, faults
from serve.api.fields.checked import Checked
from serve.api.fields.fate import Check, Origin, Table, forwarded, honoured, refused
from serve.api.fields.shared import (
    CHOICES_PER_REQUEST_MAX,
    RESPONSE_FORMAT,
    SHARED,
    check_sampling,
    choices,
    include_usage,
)
from serve.settings.site import Limits

PROMPTS_MAX: Final = 2048
"""Whatever the site allows: the most that `limits.prompts` can say."""
PROMPT_TOKENS_MAX: Final = 4_194_304
"""Token ids in one prompt; a body of 8 MiB holds no more."""
DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's default, and vLLM's."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Checked prompts: as they came, those in text, and the lengths of those in tokens."""

    value: str | list[Any]
    texts: list[str]
    tokens: tuple[int, ...]
    size_bytes: int

    @property
    def count(self) -> int:
        return len(self.texts) + len(self.tokens)


def read_prompts(value: Any, param: str) -> Prompts:
    """A string, strings, token ids, or several prompts of token ids."""
    if type(value) is str:
        return _of_texts(value, [value], param)
    if type(value) is not list:
        raise faults.wrong_type(param, "a string or an array", value)
    if not value:
        raise faults.empty(param, "array")
    kind = type(value[0])
    if kind is int:
        return Prompts(value, [], (_length(value, param),), 0)
    checks.array(value, param, PROMPTS_MAX)
    if kind is str:
        for place, one in enumerate(value):
            if type(one) is not str:
                raise faults.wrong_type(f"{param}[{place}]", "a string", one)
        return _of_texts(value, value, param)
    if kind is list:
        lengths = tuple(_length(one, f"{param}[{place}]") for place, one in enumerate(value))
        return Prompts(value, [], lengths, 0)
    raise faults.wrong_type(f"{param}[0]", "a string, a token id or an array of them", value[0])


def _of_texts(value: str | list[Any], texts: list[str], param: str) -> Prompts:
    size = 0
    for text in texts:
        if not text:
            raise faults.empty(param, "string")
        size += checks.size_bytes(text, param)
    return Prompts(value, texts, (), size)


def _length(tokens: Any, param: str) -> int:
    checks.array(tokens, param, PROMPT_TOKENS_MAX, 1)
    if set(map(type, tokens)) != {int}:
        raise faults.wrong_type(param, "an array of token ids (integers)", tokens)
    if min(tokens) < 0:
        raise faults.below(param, "integer", 0, min(tokens))
    if max(tokens) > checks.INT32_MAX:
        raise faults.above(param, "integer", checks.INT32_MAX, max(tokens))
    return len(tokens)


_VLLM: Final = Origin.VLLM

COMPLETION: Final = Table(
    "/v1/completions",
    ("model", "prompt"),
    (
        honoured(
            "prompt",
            Check(
                "string, token ids, or array of either, none empty",
                read_prompts,
                chatshapes.PROMPTS,
            ),
            "At most the site's `limits.prompts`; times `n`, at most the larger of that and "
            "`limits.choices`. Required: an engine cannot start from nothing.",
        ),
        forwarded(
            "max_tokens",
            checks.integer(0, checks.INT32_MAX),
            f"Bounds each choice; {DEFAULT_MAX_TOKENS} when absent. 0 only with `echo`.",
        ),
        forwarded("logprobs", checks.integer(0, 5), "0: of the sampled tokens alone."),
        forwarded("echo", checks.boolean(), "The prompt comes back before its completion."),
        honoured(
            "best_of",
            checks.integer(1, CHOICES_PER_REQUEST_MAX),
            "Only the same as `n`: there is no ranking of more candidates.",
        ),
        refused("suffix", "no model served here fills in the middle."),
        *SHARED,
        forwarded("response_format", RESPONSE_FORMAT, "The answer is held to it.", _VLLM),
        refused("prompt_embeds", "prompts are text or token ids.", _VLLM),
    ),
)


def check_completion(body: object, limits: Limits) -> Checked:
    """Check a request of `/v1/completions`, as orjson parsed it; raises InvalidRequest."""
    engine, own = COMPLETION.read(body)
    prompts: Prompts = own["prompt"]
    engine["prompt"] = prompts.value
    n = choices(own, limits)
    if n > 1:
        engine["n"] = n
    _check_count(n, prompts.count, limits)
    if own.get("best_of", n) != n:
        raise faults.unsupported_value(
            "best_of", own["best_of"], "it must equal 'n'; candidates are not ranked."
        )
    bound = engine.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    if bound == 0 and not engine.get("echo"):
        raise faults.below("max_tokens", "integer", 1, 0)
    check_sampling(engine, bound)
    return Checked(
        model=own["model"],
        stream=own.get("stream", False),
        include_usage=include_usage(own),
        n=n * prompts.count,
        engine_body=engine,
        max_output_tokens=bound,
        prompts=tuple([text] for text in prompts.texts),
        prompt_bytes=prompts.size_bytes,
        token_prompts=prompts.tokens,
        logprobs="logprobs" in engine,
    )


def _check_count(n: int, prompts: int, limits: Limits) -> None:
    if prompts > limits.prompts:
        raise faults.too_long("prompt", "array", limits.prompts, prompts)
    most = max(limits.prompts, limits.choices)
    if n * prompts > most:
        raise faults.invalid(
            "n", f"{n} choices for each of {prompts} prompts make more than {most} in one request."
        )
