"""Functions of the site file, against a real server."""

import json
from typing import Any

import pytest

from serve.core.errors import SettingsError
from serve.settings.toolservers import ToolServer
from serve.toolservers.http import HttpServer
from serve.toolservers.records import ToolFailed
from tests.conftest import free_port
from tests.toolservers.conftest import FunctionServer

SCHEMA = {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"], "additionalProperties": False,
}  # fmt: skip


def server(url: str, method: str = "POST", path: str = "/f", **fields: Any) -> HttpServer:
    function = {"name": "f", "url": url + path, "method": method, "description": "does f",
                "parameters": SCHEMA}  # fmt: skip
    settings = {"name": "site", "kind": "http", "functions": [function], **fields}
    return HttpServer(ToolServer.model_validate(settings), {"KEY": "secret"})


async def failure(http: HttpServer, **arguments: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await http.call("f", arguments)
    await http.close()
    return caught.value


async def test_a_body_and_a_query(functions: FunctionServer) -> None:
    http = server(functions.url, secret_headers={"X-Key": "KEY"})
    assert json.loads(await http.call("f", {"city": "Bern", "days": 2})) == {"at": "/f"}
    await http.call("f", {"city": "Thun"})
    await http.close()
    first, second = functions.asked
    assert (first["method"], json.loads(first["body"])) == ("POST", {"city": "Bern", "days": 2})
    assert first["key"] == "secret"
    assert first["port"] == second["port"], "the connection was not kept"
    http = server(functions.url, "GET", "/f?units=c")
    await http.call("f", {"city": "Genève & more"})
    await http.close()
    assert functions.asked[2]["path"] == "/f?units=c&city=Gen%C3%A8ve+%26+more"
    assert functions.asked[2]["body"] == ""


async def test_what_it_offers(functions: FunctionServer) -> None:
    (posted,) = await server(functions.url).tools()
    (got,) = await server(functions.url, "GET").tools()
    assert (posted.name, posted.schema, posted.read_only) == ("f", SCHEMA, False)
    assert got.read_only


async def test_arguments_that_break_the_schema_are_not_sent(functions: FunctionServer) -> None:
    failed = await failure(server(functions.url), town="Bern")
    assert (failed.outcome, failed.error["code"]) == ("refused", -32602)
    assert "break the schema of f" in failed.message
    assert functions.asked == []


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/moved", 302)])
async def test_a_status_is_a_failure(functions: FunctionServer, path: str, status: int) -> None:
    """A redirect too: the site names the addresses."""
    failed = await failure(server(functions.url, path=path), city="Bern")
    assert failed.error == {
        "type": "http_error", "code": status, "message": f'HTTP {status}: {{"at": "{path}"}}',
    }  # fmt: skip
    assert len(functions.asked) == 1


async def test_a_long_result_is_cut(functions: FunctionServer) -> None:
    http = server(functions.url, path="/big", max_result_bytes=300)
    text = await http.call("f", {"city": "Bern"})
    await http.close()
    assert text.startswith("y" * 300 + "\n[cut here")


async def test_nobody_there() -> None:
    failed = await failure(server(f"http://127.0.0.1:{free_port()}"), city="Bern")
    assert (failed.outcome, failed.error["type"]) == ("unreachable", "mcp_protocol_error")
    assert failed.message == "'site' cannot be reached (ConnectError)"


def test_what_is_not_set_up() -> None:
    with pytest.raises(SettingsError, match="environment variable NONE is not set"):
        server("http://127.0.0.1:1", secret_headers={"X-Key": "NONE"})
    with pytest.raises(SettingsError, match="holds no certificates"):
        server("http://127.0.0.1:1", ca_file="/nowhere.pem")
