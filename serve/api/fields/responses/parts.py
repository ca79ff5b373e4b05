"""The contents of input items: text parts, in the form in which the API shows them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from serve.api.fields import checks, faults, media
from serve.api.fields.messages import JSON, MEDIA, PARTS_MAX

TEXT_ONLY: Final = "models served here take text only."


def known(value: Any, path: str, keys: Iterable[str]) -> JSON:
    """The object itself. Clients dump one class for many kinds, so null is no field."""
    if type(value) is not dict:
        raise faults.wrong_type(path, "an object", value)
    for key, inner in value.items():
        if inner is not None and key not in keys:
            raise faults.unknown(f"{path}.{key}", keys)
    return value


def required_text(owner: JSON, key: str, path: str, maximum: int | None = None) -> str:
    """A string that must be there; without a maximum it may also be empty."""
    value = owner.get(key)
    if value is None:
        raise faults.missing(f"{path}.{key}")
    limit = checks.INT32_MAX if maximum is None else maximum
    return checks.text(value, f"{path}.{key}", limit, 0 if maximum is None else 1)


def read_input(value: Any, path: str) -> list[JSON]:
    """What a developer or the system says: a string, or `input_text` parts."""
    if type(value) is str:
        return [{"type": "input_text", "text": value}]
    return read_parts(value, path, _INPUT, 1)


def read_user(value: Any, path: str) -> list[JSON]:
    """What a user says: a string, or `input_text` and `input_image` parts."""
    return read_parts(value, path, _USER, 1) if type(value) is list else read_input(value, path)


def read_said(value: Any, path: str) -> list[JSON]:
    """What the assistant said: a string, or `output_text` and `refusal` parts."""
    if type(value) is str:
        return [_said(value)]
    return read_parts(value, path, _OUTPUT)


def read_output(value: Any, path: str) -> str | list[JSON]:
    """What a tool gave: a string, which stays one, or `input_text` parts."""
    if value is None:
        raise faults.missing(path)
    return value if type(value) is str else read_parts(value, path, _INPUT)


def read_thought(value: Any, path: str) -> list[JSON]:
    return [] if value is None else read_parts(value, path, _THOUGHT)


def read_summary(value: Any, path: str) -> list[JSON]:
    return [] if value is None else read_parts(value, path, _SUMMARY)


Reader = Callable[[JSON, str], JSON]


def read_parts(
    value: Any, path: str, readers: Mapping[str, Reader], minimum_items: int = 0
) -> list[JSON]:
    if value is None:
        raise faults.missing(path)
    if type(value) is not list:
        raise faults.wrong_type(path, "a string or an array of content parts", value)
    checks.array(value, path, PARTS_MAX, minimum_items)
    return [_part(part, f"{path}[{place}]", readers) for place, part in enumerate(value)]


def _part(part: Any, path: str, readers: Mapping[str, Reader]) -> JSON:
    if type(part) is not dict:
        raise faults.wrong_type(path, "an object", part)
    kind = part.get("type")
    if kind is None:
        raise faults.missing(f"{path}.type")
    read = readers.get(kind) if type(kind) is str else None
    if read is None:
        if type(kind) is str and kind in _MEDIA:
            raise faults.unsupported_value(f"{path}.type", kind, MEDIA)
        raise faults.not_one_of(f"{path}.type", kind, readers)
    return read(part, path)


def _plain(kind: str, key: str, others: frozenset[str] = frozenset()) -> Reader:
    """Parts that are one text."""
    keys = frozenset({"type", key}) | others

    def read(part: JSON, path: str) -> JSON:
        known(part, path, keys)
        return {"type": kind, key: required_text(part, key, path)}

    return read


def _image(part: JSON, path: str) -> JSON:
    known(part, path, _IMAGE_KEYS)
    if part.get("file_id") is not None:
        raise faults.unsupported(
            f"{path}.file_id", "send the image itself, as a `data:` URL in `image_url`."
        )
    if part.get("image_url") is None:
        raise faults.missing(f"{path}.image_url")
    detail = part.get("detail")
    media.check_detail(detail, f"{path}.detail")
    url = media.read_image_url(part["image_url"], f"{path}.image_url")
    return {"type": "input_image", "detail": detail or "auto", "file_id": None, "image_url": url}


def _said(text: str, annotations: list[Any] | None = None) -> JSON:
    return {
        "type": "output_text",
        "text": text,
        "annotations": annotations or [],
        "logprobs": [],
    }


def _output_text(part: JSON, path: str) -> JSON:
    """Replayed as it was given, or with less: log probabilities change nothing any more."""
    known(part, path, _OUTPUT_KEYS)
    annotations = part.get("annotations")
    if annotations is not None:
        checks.array(annotations, f"{path}.annotations", PARTS_MAX)
        for place, one in enumerate(annotations):
            if type(one) is not dict:
                raise faults.wrong_type(f"{path}.annotations[{place}]", "an object", one)
    logprobs = part.get("logprobs")
    if logprobs is not None and type(logprobs) is not list:
        raise faults.wrong_type(f"{path}.logprobs", "an array", logprobs)
    return _said(required_text(part, "text", path), annotations)


# `parsed` is what an SDK adds to a part that it has read as JSON.
_OUTPUT_KEYS: Final = frozenset({"type", "text", "annotations", "logprobs", "parsed"})
_INPUT: Final[Mapping[str, Reader]] = {
    "input_text": _plain("input_text", "text", frozenset({"prompt_cache_breakpoint"})),
}
_IMAGE_KEYS: Final = frozenset(
    {"type", "detail", "file_id", "image_url", "prompt_cache_breakpoint"}
)
_USER: Final[Mapping[str, Reader]] = {**_INPUT, "input_image": _image}
_OUTPUT: Final[Mapping[str, Reader]] = {
    "output_text": _output_text,
    "refusal": _plain("refusal", "refusal"),
}
_THOUGHT: Final[Mapping[str, Reader]] = {"reasoning_text": _plain("reasoning_text", "text")}
_SUMMARY: Final[Mapping[str, Reader]] = {"summary_text": _plain("summary_text", "text")}
_MEDIA: Final = frozenset(
    {"input_image", "input_file", "input_audio", "computer_screenshot", "image_url", "file"}
)
