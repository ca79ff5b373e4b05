"""A tool server of `kind: http`: functions behind addresses that the site file lists."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import jsonschema
import orjson

from serve.settings.toolservers import Function, ToolServer
from serve.toolservers.reach import client_of
from serve.toolservers.records import (
    BAD_ARGUMENTS,
    JSON,
    UNREACHABLE,
    Tool,
    cut,
    http_error,
    protocol_error,
)

ERROR_MAX_BYTES: Final = 2000
"""Of the body of a refusal, which the model is shown."""
_IN_QUERY: Final = frozenset({"GET", "DELETE"})


class HttpServer:
    """Functions, each one request. Connections are kept for the next call."""

    def __init__(self, settings: ToolServer, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._client = client_of(settings, environ)
        self._functions = {one.name: one for one in settings.functions}
        self._checks = {
            name: jsonschema.Draft202012Validator(one.parameters)
            for name, one in self._functions.items()
        }
        self._tools = tuple(map(_tool, settings.functions))

    async def tools(self) -> tuple[Tool, ...]:
        """See `Server`."""
        return self._tools

    async def call(self, tool: str, arguments: JSON) -> str:
        """See `Server`. Arguments that break the function's schema are not sent."""
        function = self._functions[tool]
        problem = next(iter(self._checks[tool].iter_errors(arguments)), None)
        if problem is not None:
            words = f"the arguments break the schema of {tool}: {problem.message[:500]}"
            raise protocol_error("refused", BAD_ARGUMENTS, words)
        try:
            return await self._ask(function, arguments)
        except httpx2.HTTPError as error:
            words = f"'{self._settings.name}' cannot be reached ({type(error).__name__})"
            raise protocol_error("unreachable", UNREACHABLE, words) from None

    async def close(self) -> None:
        """See `Server`."""
        await self._client.aclose()

    async def _ask(self, function: Function, arguments: JSON) -> str:
        async with self._client.stream(
            function.method, function.url, **_carried(function, arguments)
        ) as answer:
            failed = not answer.is_success
            longest = ERROR_MAX_BYTES if failed else self._settings.max_result_bytes
            data = await _start_of(answer, longest)
        if failed:
            said = cut(data, longest) or answer.reason_phrase
            raise http_error(answer.status_code, f"HTTP {answer.status_code}: {said}")
        return cut(data, longest)


def _carried(function: Function, arguments: JSON) -> dict[str, Any]:
    """The arguments as this method carries them."""
    if function.method not in _IN_QUERY:
        body = orjson.dumps(arguments)
        return {"content": body, "headers": {"content-type": "application/json"}}
    if not arguments:
        return {}
    url = httpx2.URL(function.url)
    return {"params": url.params.merge({k: _in_query(v) for k, v in arguments.items()})}


def _in_query(value: Any) -> Any:
    """Numbers and texts as they are, lists of them repeated, the rest as JSON."""
    if isinstance(value, list):
        return [_in_query(one) for one in value]
    return orjson.dumps(value).decode() if isinstance(value, dict | bool) else value


async def _start_of(answer: httpx2.Response, longest: int) -> bytes:
    """The body, read no further than is needed to know that it is longer."""
    found = bytearray()
    async for part in answer.aiter_bytes():
        found += part
        if len(found) > longest:
            break
    return bytes(found)


def _tool(function: Function) -> Tool:
    hints = {"readOnlyHint": True} if function.method == "GET" else None
    return Tool(function.name, function.description, dict(function.parameters), hints)
