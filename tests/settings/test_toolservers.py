"""Tool servers in a site file: what is right, and what is wrong with the others, in words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from serve.core.errors import SettingsError
from serve.settings.load import load_site
from serve.settings.toolservers import ToolServer, problems_of

URL = "https://tools.example.org/mcp"
FUNCTION = {"name": "f", "url": "https://tools.example.org/f", "description": "does f"}


def words(**fields: object) -> list[str]:
    server = ToolServer.model_validate({"name": "desk", "kind": "mcp", **fields})
    return [text for _, text in problems_of(server)]


def test_what_is_right() -> None:
    assert words(url=URL, secret_headers={"Authorization": "TOKEN"}) == []
    assert words(command=["desk", "--stdio"], environment=["TOKEN"]) == []
    assert words(kind="http", functions=[FUNCTION]) == []
    assert words(url="http://127.0.0.1:9/mcp", secret_headers={"X-Key": "TOKEN"}) == []
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {}}}
    assert words(kind="http", functions=[{**FUNCTION, "parameters": schema}]) == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "needs either url or command"),
        ({"url": URL, "command": ["x"]}, "needs either url or command"),
        ({"kind": "http"}, "needs functions"),
        ({"kind": "http", "functions": [FUNCTION], "url": URL}, "url is for kind mcp"),
        ({"url": URL, "functions": [FUNCTION]}, "functions is for kind http"),
        ({"command": ["x"], "secret_headers": {"A": "B"}}, "a command takes environment"),
        ({"url": "http://tools.example.org/mcp", "secret_headers": {"A": "B"}}, "use https"),
        ({"url": "https://a:0/mcp"}, "a port that is none"),
        ({"kind": "http", "functions": [FUNCTION, FUNCTION]}, 'another function is named "f"'),
        (
            {"kind": "http", "functions": [{**FUNCTION, "parameters": {"type": "array"}}]},
            "it must describe an object",
        ),
        (
            {"kind": "http", "functions": [
                {**FUNCTION, "parameters": {"type": "object", "properties": 1}}]},
            "it is no JSON Schema",
        ),
        (
            {"kind": "http", "functions": [
                {**FUNCTION, "parameters": {"type": "object", "$ref": "https://x/y"}}]},
            "refers to a schema elsewhere",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong(fields: dict[str, object], text: str) -> None:
    assert [one for one in words(**fields) if text in one]


@pytest.mark.parametrize("name", ["Desk", "a_b", "-a", "a-", "a" * 33, ""])
def test_a_name_is_a_label(name: str) -> None:
    with pytest.raises(ValidationError):
        ToolServer.model_validate({"name": name, "kind": "mcp", "url": URL})


def load(folder: Path, text: str) -> tuple[ToolServer, ...]:
    (folder / "small.yaml").write_text("name: small\nsource: {path: x}\ncontext_tokens: 16\n")
    site = folder / "site.yaml"
    site.write_text(f"site: lab\nmodel_files: .\nmodels: [{{use: small, aliases: [s]}}]\n{text}")
    return load_site(site, env={}).tool_servers


def test_in_a_site_file(tmp_path: Path) -> None:
    (one,) = load(
        tmp_path,
        "tool_servers:\n- {name: desk, kind: mcp, command: [desk], folder: tools, models: [s]}\n",
    )
    assert (one.folder, one.models, one.timeout_s) == (tmp_path / "tools", ("s",), 30)


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    text = (
        "tool_servers:\n"
        f"- {{name: desk, kind: mcp, url: '{URL}', models: [big]}}\n"
        "- {name: desk, kind: mcp}\n"
        f"- {{name: two, kind: mcp, url: '{URL}', time_out: 3}}\n"
    )
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert 'unknown key "time_out" in tool_servers[2]; nearest known key: "timeout_s"' in str(
        caught.value
    )
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text.replace(", time_out: 3", ""))
    lines = str(caught.value).splitlines()
    assert any(':5: tool_servers[0].models: no model "big" here' in line for line in lines)
    assert any(":6: tool_servers[1]: needs either url or command" in line for line in lines)
    assert any(':6: tool_servers[1].name: "desk" already means' in line for line in lines)


def test_bounds_on_files_and_batches_are_the_files(tmp_path: Path) -> None:
    load(tmp_path, "files: {file_mib: 3}\nbatches: {lines: 7}\n")
    site = load_site(tmp_path / "site.yaml", env={})
    assert (site.files.file_mib, site.batches.lines) == (3, 7)
