"""What requests for vectors and for scores have in common."""

from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.fate import Field, Origin, refused
from serve.api.fields.shapes import closed, either, text
from serve.api.fields.shared import MODEL, USER

TEXTS_MAX: Final = 2048
"""The hosted API's bound on the inputs of one request."""
TEXT: Final = either(text(minimum_chars=1), closed({"text": text(minimum_chars=1)}))

_VLLM: Final = Origin.VLLM
_TEXT_ONLY: Final = "models served here take text only."

POOLING: Final[tuple[Field, ...]] = (
    MODEL,
    USER,
    refused(
        "truncate_prompt_tokens",
        "texts are never cut; one that is too long is `context_length_exceeded`.",
        _VLLM,
    ),
    refused("truncation_side", "texts are never cut.", _VLLM),
    refused("padding", "how an engine batches is the site's to set.", _VLLM),
    refused("request_id", "every request gets one: `x-request-id` in the answer.", _VLLM),
    refused("priority", "a request's place in the queue is the site's to decide.", _VLLM),
    refused("mm_processor_kwargs", _TEXT_ONLY, _VLLM),
    refused("cache_salt", "the server derives it, so that no client reads another's cache.", _VLLM),
    refused("normalize", "removed from vLLM; use `use_activation`.", Origin.FORMER),
    refused("task", "removed from vLLM; the address says what is asked.", Origin.FORMER),
)


def read_texts(value: Any, param: str) -> list[str]:
    """One text or several, each a string or an object with a `text`; raises InvalidRequest."""
    if type(value) is not list:
        return [read_text(value, param)]
    checks.array(value, param, TEXTS_MAX, 1)
    return [read_text(one, f"{param}[{place}]") for place, one in enumerate(value)]


def read_text(value: Any, param: str) -> str:
    """One text, a string or an object with a `text`; raises InvalidRequest."""
    if type(value) is dict:
        checks.keys(value, param, frozenset({"text"}))
        value, param = value.get("text"), f"{param}.text"
        if value is None:
            raise faults.missing(param)
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    if not value:
        raise faults.empty(param, "string")
    checks.size_bytes(value, param)
    return value
