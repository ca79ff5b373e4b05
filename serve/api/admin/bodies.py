"""What may be sent to the admin door."""

from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve.api.body import read_json
from serve.core.errors import InvalidRequest

BODY_MAX_BYTES = 64 * 1024
WAIT_MAX_S = 600


class StrictBody(BaseModel):
    """Base of all: nothing is turned into what it is not, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OrderBody(StrictBody):
    """Of an order on one model; `wait_s`: how long the answer may wait for the order's end."""

    wait_s: Annotated[float, Field(ge=0, le=WAIT_MAX_S)] = 0.0


class SiteBody(StrictBody):
    """Of a plan or an apply: the site file, as the server finds it."""

    site_file: Annotated[str, Field(min_length=1, max_length=4096)]

    @property
    def path(self) -> Path:
        """Absolute: the server's folder is not the one that the operator is in."""
        path = Path(self.site_file)
        if not path.is_absolute():
            raise InvalidRequest(
                f"site_file: {self.site_file!r} is relative; give the whole path", param="site_file"
            )
        return path


Body = TypeVar("Body", bound=StrictBody)


async def body_of(request: Request, kind: type[Body]) -> Body:
    """The checked body; none at all is one without fields. Raises InvalidRequest."""
    empty = request.headers.get("content-length", "0") == "0"
    chunked = "transfer-encoding" in request.headers
    value = {}
    if chunked or not empty:
        value = await read_json(request.scope, request.receive, BODY_MAX_BYTES)
    if not isinstance(value, dict):
        raise InvalidRequest("The request body is not a JSON object.", code="invalid_json")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refusal(error, kind) from None


def _refusal(error: ValidationError, kind: type[StrictBody]) -> InvalidRequest:
    first = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return InvalidRequest(
            f"Unknown field {param!r}; known: {known}.", param=param, code="unknown_parameter"
        )
    return InvalidRequest(f"{param}: {first['msg']}.", param=param, code="invalid_value")
