"""Agents for the terminal: Codex and Claude Code hold a conversation with tools."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environment import client_of
from tests.conftest import Gateway

pytestmark = pytest.mark.long

NOTE = "The vault's code: fake:call=none fake:say=The_code_is_4711.\n"
"""A file that tells the fake engine what to say once it has been read."""
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CODEX = """\
model = "fake"
model_provider = "inhouse"
web_search = "disabled"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.inhouse]
name = "Inhouse"
base_url = "{url}/v1"
env_key = "INHOUSE_KEY"
wire_api = "responses"
"""
CLAUDE = {
    "ANTHROPIC_MODEL": "fake",
    "ANTHROPIC_SMALL_FAST_MODEL": "fake",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder to work in, with the note."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "note.txt").write_text(NOTE)
    return folder


def output_of(words: Sequence[str], cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, timeout=100, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_codex(site: Gateway, desk: Path, tmp_path: Path) -> None:
    found = client_of("codex")
    env = found.env(site, tmp_path)
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(CODEX.format(url=site.url))
    program = [str(found.folder / "node_modules" / ".bin" / "codex"), "exec"]
    options = ["--skip-git-repo-check", "--json"]

    def items(*words: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in output_of(words, desk, env).splitlines()]
        assert events[-1]["type"] == "turn.completed"
        assert events[-1]["usage"]["input_tokens"] > 0
        return [one["item"] for one in events if one["type"] == "item.completed"]

    prompt = 'fake:think=2 fake:call=exec_command fake:arguments={"cmd":"cat\\u0020note.txt"}'
    open_to_all = ["--sandbox", "danger-full-access"]
    read = items(*program, *options, *open_to_all, prompt)
    (command,) = (one for one in read if one["type"] == "command_execution")
    assert (command["exit_code"], command["aggregated_output"]) == (0, NOTE)
    assert read[-1]["text"] == "The code is 4711."
    # The whole conversation is sent again, with what was thought and called.
    more = items(*program, "resume", "--last", *options, "fake:call=none fake:say=Again.")
    assert more[-1]["text"] == "Again."
    # An answer held to a schema.
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    held = items(*program, *options, "--output-schema", str(schema), 'fake:say={"city":"Bern"}')
    assert held[-1]["text"] == '{"city":"Bern"}'
    # A tool of one of Codex's namespaces.
    call = 'fake:call=multi_agent_v1__close_agent fake:arguments={"target":"x"} fake:times=1'
    assert items(*program, *options, f"{call} fake:say=Closed.")[-1]["text"] == "Closed."


def test_claude_code(site: Gateway, desk: Path, tmp_path: Path) -> None:
    found = client_of("claude")
    env = found.env(site, tmp_path) | CLAUDE
    env |= {"ANTHROPIC_BASE_URL": site.url, "ANTHROPIC_API_KEY": site.key}
    (program,) = found.folder.glob("node_modules/@anthropic-ai/claude-code-*/claude")

    def told(*words: str) -> dict[str, Any]:
        out = output_of([str(program), "-p", *words, "--output-format", "json"], desk, env)
        answer: dict[str, Any] = json.loads(out)
        assert not answer["is_error"]
        return answer

    arguments = json.dumps({"file_path": str(desk / "note.txt")}, separators=(",", ":"))
    prompt = f"fake:think=2 fake:call=Read fake:arguments={arguments}"
    read = told(prompt, "--allowedTools", "Read")
    assert (read["result"], read["num_turns"]) == ("The code is 4711.", 2)
    assert read["permission_denials"] == []
    assert read["usage"]["output_tokens"] > 0
    more = told("fake:call=none fake:say=Again.", "--continue")
    assert more["result"] == "Again."
    assert more["session_id"] == read["session_id"]
