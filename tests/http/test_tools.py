"""The tools that this server calls itself, over the fake engine and with real tool servers."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.applied import Applied
from tests.conftest import Gateway, Inhouse, free_port, start_gateway
from tests.http.test_responses import create, events_of, final_of, stream, until_ended
from tests.toolservers.conftest import ROOT, FunctionServer, McpProcess

SERVERS = """\
tool_servers:
  - name: desk
    kind: mcp
    command: [{python}, -m, tests.mcp_server, stdio]
    folder: {root}
    timeout_s: 20
  - {{name: far, kind: mcp, url: '{far}', max_calls: 2, timeout_s: 5}}
  - {{name: dead, kind: mcp, url: 'http://127.0.0.1:{free}/mcp'}}
  - name: site
    kind: http
    timeout_s: 0.5
    functions:
      - name: weather
        url: {functions}/weather
        description: The weather.
        parameters: {{type: object, properties: {{city: {{type: string}}}}, required: [city]}}
      - {{name: slow, url: '{functions}/slow', method: GET, description: Slow.}}
  - {{name: guarded, kind: mcp, url: '{far}', approval: always}}
  - {{name: others, kind: mcp, url: '{far}', tenants: [other]}}
  - {{name: elsewhere, kind: mcp, url: '{far}', models: [default]}}
"""


class Place:
    """A gateway, and the tool servers of its site."""

    def __init__(self, root: Path) -> None:
        self.far = McpProcess()
        self.functions = FunctionServer()
        servers = SERVERS.format(
            python=sys.executable, root=ROOT, far=self.far.url, free=free_port(),
            functions=self.functions.url,
        )  # fmt: skip
        self.applied = Applied(root, more=servers)

    @property
    def gateway(self) -> Gateway:
        return self.applied.gateway

    def stop(self) -> None:
        self.applied.close()
        self.functions.stop()
        self.far.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("tools"))
    yield made
    made.stop()


@pytest.fixture
def gateway(place: Place) -> Gateway:
    return place.gateway


def mcp(label: str, **fields: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": label, **fields}


def calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in body["output"] if item["type"] == "mcp_call"]


def text_of(body: dict[str, Any]) -> str:
    return str(body["output"][-1]["content"][0]["text"])


ADD = 'fake:call=desk__add fake:arguments={"a":2,"b":3} fake:times=1 fake:echo'


def test_a_process_is_called_and_the_model_reads_what_it_said(gateway: Gateway) -> None:
    body = create(gateway, ADD, tools=[mcp("desk")])
    listed, call, message = body["output"]
    assert [tool["name"] for tool in listed["tools"]][:2] == ["add", "fail"]
    assert listed["tools"][0]["annotations"] == {"readOnlyHint": True}
    assert json.loads(call["arguments"]) == {"a": 2, "b": 3}
    assert (call["output"], call["status"]) == ("the sum is 5", "completed")
    assert message["content"][0]["text"] == "the sum is 5"
    assert body["tools"] == [mcp("desk", allowed_tools=None, require_approval="never")]
    # Both rounds: a call is one token of the fake engine's.
    assert body["usage"]["output_tokens"] == 1 + 4


def test_streamed_with_the_sdk(gateway: Gateway) -> None:
    events = stream(gateway, ADD.replace("desk", "far"), tools=[mcp("far")])
    final = final_of(events)
    kinds = [e["type"] for e in events]
    for kind in (
        "mcp_list_tools.in_progress", "mcp_list_tools.completed", "mcp_call.in_progress",
        "mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed",
    ):  # fmt: skip
        assert kinds.count(f"response.{kind}") == 1
    assert text_of(final) == "the sum is 5"
    assert gateway.client.get(f"/v1/responses/{final['id']}").json() == final
    sdk = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    with sdk.responses.stream(
        model="fake",
        input="fake:times=1 " + ADD,
        tools=[{"type": "mcp", "server_label": "desk"}],
    ) as streaming:
        streaming.until_done()
        assert streaming.get_final_response().output_text == "the sum is 5"


def test_the_next_turn_reads_the_same(gateway: Gateway) -> None:
    first = create(gateway, ADD, tools=[mcp("desk")])
    asked = "fake:call=none well"
    second = create(gateway, asked, previous_response_id=first["id"], tools=[mcp("desk")])
    assert [item["type"] for item in second["output"]] == ["message"]
    listed = gateway.client.get(f"/v1/responses/{second['id']}/input_items").json()["data"]
    assert [item["type"] for item in listed] == ["message"]


def test_a_function_of_the_sites(place: Place) -> None:
    asked = 'fake:call=site__weather fake:arguments={"city":"Chur"} fake:times=1 fake:echo'
    body = create(place.gateway, asked, tools=[mcp("site", allowed_tools=["weather"])])
    assert calls(body)[0]["output"] == '{"at": "/weather"}'
    assert json.loads(place.functions.asked[-1]["body"]) == {"city": "Chur"}
    wrong = create(place.gateway, asked.replace("city", "town"), tools=[mcp("site")])
    assert "break the schema" in calls(wrong)[0]["error"]["message"]
    assert text_of(wrong).startswith("Error: the arguments break the schema")


def test_failures_are_told_to_the_model_and_nothing_hangs(place: Place) -> None:
    gateway = place.gateway
    failed = create(gateway, "fake:call=desk__fail fake:times=1 fake:echo", tools=[mcp("desk")])
    assert (calls(failed)[0]["status"], failed["status"]) == ("failed", "completed")
    assert text_of(failed).startswith("Error: Error executing tool fail")
    began_s = time.monotonic()
    slow = create(gateway, "fake:call=site__slow fake:times=1 fake:echo", tools=[mcp("site")])
    assert "no result in 0.5 s" in text_of(slow)
    assert time.monotonic() - began_s < 3
    dead = create(gateway, "fake:say=alone", tools=[mcp("dead")])
    assert dead["output"][0]["error"] == "'dead' cannot be reached"
    assert text_of(dead) == "alone"
    died = create(gateway, "fake:call=far__die fake:times=1 fake:echo", tools=[mcp("far")])
    assert "was lost during the call" in text_of(died)
    place.far.process.wait()
    place.far.start()
    assert calls(create(gateway, ADD.replace("desk", "far"), tools=[mcp("far")]))[0]["output"]


def test_several_at_once_beside_the_clients_own(gateway: Gateway) -> None:
    own = {"type": "function", "name": "mine", "parameters": {"type": "object"}, "strict": False}
    asked = 'fake:call=desk__add,mine,far__add fake:arguments={"a":1} fake:times=1'
    body = create(gateway, asked, tools=[mcp("desk"), own, mcp("far")])
    assert [item["type"] for item in body["output"]][2:] == [
        "mcp_call", "function_call", "mcp_call",
    ]  # fmt: skip
    assert [call["output"] for call in calls(body)] == ["the sum is 2"] * 2
    answer = {"type": "function_call_output", "output": "mine too",
              "call_id": body["output"][3]["call_id"]}  # fmt: skip
    tools = [mcp("desk"), own, mcp("far")]
    after = create(gateway, [answer], previous_response_id=body["id"], tools=tools)
    assert after["output"][-1]["type"] == "message"


def test_bounds(gateway: Gateway) -> None:
    again = 'fake:call=far__add fake:arguments={"a":1} fake:echo'
    by_site = create(gateway, again, tools=[mcp("far")])
    assert [call["status"] for call in calls(by_site)] == ["completed", "completed"]
    assert text_of(by_site) == "the sum is 2"
    at_once = again.replace("far__add", "far__add,far__add")
    by_request = create(gateway, at_once, tools=[mcp("far")], max_tool_calls=1)
    assert [call["status"] for call in calls(by_request)] == ["completed", "failed"]
    assert "`max_tool_calls`" in text_of(by_request)


def test_a_call_that_is_approved(gateway: Gateway) -> None:
    asked = ADD.replace("desk", "guarded")
    first = create(gateway, asked, tools=[mcp("guarded")])
    request = first["output"][-1]
    assert (request["type"], request["name"]) == ("mcp_approval_request", "add")
    word = {"type": "mcp_approval_response", "approval_request_id": request["id"]}
    yes = create(
        gateway, [{**word, "approve": True}], previous_response_id=first["id"],
        tools=[mcp("guarded")],
    )  # fmt: skip
    assert calls(yes)[0]["approval_request_id"] == request["id"]
    assert text_of(yes) == "the sum is 5"
    no = create(
        gateway, [{**word, "approve": False, "reason": "not today"}],
        previous_response_id=first["id"], tools=[mcp("guarded", require_approval="always")],
    )  # fmt: skip
    assert calls(no) == []
    assert no["output"][-1]["type"] in ("message", "mcp_approval_request")


@pytest.mark.parametrize(
    ("tool", "param", "words"),
    [
        (mcp("nobody"), "tools[0].server_label", "it has desk, far, dead, site, guarded"),
        (mcp("others"), "tools[0].server_label", "no tool server labelled 'others' for you"),
        (mcp("desk", server_url="http://127.0.0.1"), "tools[0].server_url", "in the site file"),
        (mcp("desk", connector_id="connector_gmail"), "tools[0].connector_id", "`server_label`"),
        (mcp("desk", authorization="x"), "tools[0].authorization", "in the site file"),
        (mcp("guarded", require_approval="never"), "tools[0].require_approval", "`always`"),
    ],
)
def test_what_a_request_may_not(
    gateway: Gateway, tool: dict[str, Any], param: str, words: str
) -> None:
    answer = gateway.client.post(
        "/v1/responses", json={"model": "fake", "input": "x", "tools": [tool]}
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_a_model_by_another_of_its_names(gateway: Gateway) -> None:
    assert create(gateway, "fake:say=a", tools=[mcp("elsewhere")])["status"] == "completed"


def test_in_the_background_and_cancelled(gateway: Gateway, tmp_path: Path) -> None:
    done = create(gateway, ADD, tools=[mcp("desk")], background=True)
    assert text_of(until_ended(gateway, done["id"])) == "the sum is 5"
    mark = tmp_path / "mark"
    asked = f'fake:call=desk__slow fake:arguments={{"seconds":60,"mark":"{mark}"}}'
    slow = create(gateway, asked, tools=[mcp("desk")], background=True)
    path = f"/v1/responses/{slow['id']}"
    with gateway.client.stream("GET", path, params={"stream": "true"}) as following:
        for line in following.iter_lines():
            if line == "event: response.mcp_call_arguments.done":
                break
    time.sleep(0.2)
    cancelled = gateway.client.post(f"{path}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert calls(cancelled)[0]["status"] == "incomplete"
    events = events_of(gateway.client.get(path, params={"stream": "true"}).text)
    assert events[-1]["code"] == "response_cancelled"
    assert left(mark)


def left(mark: Path) -> bool:
    """Whether the tool has said, soon enough, that it was told to stop."""
    for _ in range(200):
        if mark.exists():
            return True
        time.sleep(0.02)
    return False


def test_a_client_that_leaves_ends_the_call(gateway: Gateway, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    asked = {
        "model": "fake", "stream": True, "tools": [mcp("desk")],
        "input": f'fake:call=desk__slow fake:arguments={{"seconds":60,"mark":"{mark}"}}',
    }  # fmt: skip
    with gateway.client.stream("POST", "/v1/responses", json=asked) as streaming:
        for line in streaming.iter_lines():
            if line == "event: response.mcp_call_arguments.done":
                break
        time.sleep(0.2)
    assert left(mark)


def test_tools_are_counted_as_part_of_the_prompt(gateway: Gateway) -> None:
    path, asked = "/v1/responses/input_tokens", {"model": "fake", "input": "one two"}
    plain = gateway.client.post(path, json=asked).json()["input_tokens"]
    with_tools = gateway.client.post(path, json={**asked, "tools": [mcp("desk")]}).json()
    assert with_tools["input_tokens"] > plain


def test_metrics_and_the_audit_log(place: Place) -> None:
    gateway = place.gateway
    body = create(gateway, ADD.replace('"b":3', '"b":1234567'), tools=[mcp("desk")])
    page = gateway.client.get("/metrics").text
    found = 'inhouse_tool_calls_total{outcome="ok",server="desk",tool="add"}'
    assert found in page
    assert 'inhouse_tool_call_seconds_count{server="desk",tool="add"}' in page
    lines = [
        json.loads(line)
        for line in (place.applied.root / "stderr.txt").read_text().splitlines()
        if '"inhouse.audit"' in line
    ]
    (line,) = [one for one in lines if one["request_id"][4:] == body["id"][5:]]
    assert {**line, "time": 0, "duration_ms": 0} == {
        "time": 0, "level": "info", "logger": "inhouse.audit", "message": "tool call",
        "request_id": line["request_id"], "tenant": "default", "key": line["key"],
        "server": "desk", "tool": "add", "outcome": "ok", "duration_ms": 0,
        "arguments_sha256": line["arguments_sha256"], "result_sha256": line["result_sha256"],
    }  # fmt: skip
    assert "1234567" not in json.dumps(line)


def test_an_apply_changes_them(place: Place) -> None:
    gateway = place.gateway
    before = place.applied.site_file.read_text()
    try:
        text = before.replace("- name: desk", "- name: counter", 1)
        place.applied.site_file.write_text(text)
        assert place.applied.apply()[-1]["outcome"] == "applied"
        body = create(gateway, ADD.replace("desk", "counter"), tools=[mcp("counter")])
        assert text_of(body) == "the sum is 5"
        broken = text.replace("kind: http\n", "kind: http\n    secret_headers: {X-Key: NONE}\n", 1)
        place.applied.site_file.write_text(broken)
        last = place.applied.apply()[-1]
        assert "the environment variable NONE is not set" in json.dumps(last)
    finally:
        place.applied.site_file.write_text(before)
        place.applied.apply()


def write_site(folder: Path, servers: str) -> Path:
    (folder / "models").mkdir()
    (folder / "models" / "fake.yaml").write_text(
        "name: fake\nsource: {path: none}\ncontext_tokens: 1000\n"
    )
    site = folder / "site.yaml"
    site.write_text(
        "site: t\nroot: .\nmodel_files: models\nvar_dir: .\nengine_defaults: {kind: fake}\n"
        f"models: [{{use: fake}}]\ntool_servers:\n{servers}"
    )
    return site


def test_a_server_that_is_killed_in_a_call(tmp_path: Path) -> None:
    """The call may have been made, so that the response is not begun again."""
    functions = FunctionServer()
    site = write_site(
        tmp_path,
        "- name: site\n  kind: http\n  functions:\n"
        f"  - {{name: slow, url: '{functions.url}/slow', method: GET, description: Slow.}}\n",
    )
    words = ("serve", "--site", str(site), "--starter-key")
    before = start_gateway(tmp_path, *words)
    begun = create(before, "fake:call=site__slow", tools=[mcp("site")], background=True)
    for _ in range(200):
        if functions.asked:
            break
        time.sleep(0.02)
    assert functions.asked
    before.process.kill()
    before.process.wait()
    before.client.close()
    after = start_gateway(tmp_path, *words)
    try:
        failed = until_ended(after, begun["id"])
        assert failed["status"] == "failed"
        assert [item["type"] for item in failed["output"]] == ["mcp_list_tools"]
        assert len(functions.asked) == 1
    finally:
        assert after.stop() == 0
        functions.stop()


def test_what_is_not_set_up_keeps_the_server_from_starting(
    tmp_path: Path, inhouse: Inhouse
) -> None:
    site = write_site(
        tmp_path,
        "- name: site\n  kind: mcp\n  url: http://127.0.0.1:1/mcp\n"
        "  secret_headers: {Authorization: NO_SUCH_VARIABLE}\n",
    )
    ran = inhouse("serve", "--site", str(site), "--port", str(free_port()), "--starter-key")
    assert ran.code == 2
    assert "the environment variable NO_SUCH_VARIABLE is not set" in ran.err
