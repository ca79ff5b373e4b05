"""Images in a request: in the request itself, as `data:` URLs, and of a size that can be borne.

No address is ever fetched for a client. A few bytes can unfold into gigabytes of pixels, so the
size that an image claims is read before an engine is shown it.
"""

from base64 import b64decode
from binascii import Error
from io import BytesIO
from typing import Any, Final

import imagesize

from serve.api.fields import checks, faults

JSON = dict[str, Any]

PIXELS_MAX: Final = 2**25
"""Of one image; cameras make fewer. As numbers for a model they take 100 MiB and more."""

_STARTS: Final = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""How files of the formats that are taken begin: what reads images reads many others as well."""
_DETAILS: Final = ("auto", "low", "high", "original")
_IN_WORDS: Final = ", ".join(kind.removeprefix("image/") for kind in _STARTS)


def read_image_url(value: Any, param: str) -> str:
    """A `data:` URL that holds an image; raises InvalidRequest."""
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    head, comma, encoded = value.partition(",")
    if not comma or not head.lower().startswith("data:"):
        raise faults.unsupported_value(
            param,
            value[:40],
            "addresses are not fetched here; send the image itself, as `data:image/png;base64,…`.",
        )
    kind, _, coding = head[5:].lower().partition(";")
    if kind not in _STARTS or coding != "base64":
        raise faults.invalid(param, f"the image must be in base64, and one of: {_IN_WORDS}.")
    return f"data:{kind};base64,{_checked(kind, encoded, param)}"


def read_image_data(kind: Any, encoded: Any, path: str) -> str:
    """The same for an image whose type and bytes came in two fields."""
    if kind not in _STARTS:
        raise faults.not_one_of(f"{path}.media_type", kind, _STARTS)
    if type(encoded) is not str:
        raise faults.wrong_type(f"{path}.data", "a string", encoded)
    return f"data:{kind};base64,{_checked(kind, encoded, f'{path}.data')}"


def check_detail(value: Any, param: str) -> None:
    """How closely to look. Models here look as closely as they can."""
    if value is not None and value not in _DETAILS:
        raise faults.not_one_of(param, value, _DETAILS)


def image_part(url: str) -> JSON:
    """As the engine takes it."""
    return {"type": "image_url", "image_url": {"url": url}}


def read_chat_image(part: JSON, path: str) -> JSON:
    """A chat's content part; raises InvalidRequest."""
    checks.keys(part, path, frozenset({"type", "image_url", "prompt_cache_breakpoint"}))
    image = part.get("image_url")
    if image is None:
        raise faults.missing(f"{path}.image_url")
    path = f"{path}.image_url"
    checks.keys(image, path, frozenset({"url", "detail"}))
    check_detail(image.get("detail"), f"{path}.detail")
    if image.get("url") is None:
        raise faults.missing(f"{path}.url")
    return image_part(read_image_url(image["url"], f"{path}.url"))


def images_in(messages: list[JSON]) -> int:
    """How many images the messages of a chat hold."""
    return sum(
        part["type"] == "image_url"
        for message in messages
        if type(message.get("content")) is list
        for part in message["content"]
    )


def _checked(kind: str, encoded: str, param: str) -> str:
    try:
        data = b64decode(encoded, validate=True)
    except (Error, ValueError):
        raise faults.invalid(param, "it is not valid base64.") from None
    if not data.startswith(_STARTS[kind]):
        raise faults.invalid(param, f"its bytes are not of type `{kind}`.")
    try:
        width, height = imagesize.get(BytesIO(data))
    except Exception:  # whatever bytes may do to a reader of them
        width = height = -1
    if width < 1 or height < 1:
        raise faults.invalid(param, "the image is damaged: it does not say how large it is.")
    if width * height > PIXELS_MAX:
        raise faults.invalid(
            param, f"the image has {width} x {height} pixels; at most {PIXELS_MAX:,} are taken."
        )
    return encoded
