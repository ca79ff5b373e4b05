"""Between a generated SDK's own tests and the server: what the tests take for granted.

Those tests are written against a mock that looks at shapes only: their ids are placeholders, and
one request sends every field there is, whether they go together or not. For each request the relay
makes the objects that its ids are to mean, and leaves out, one by one, the fields that the server
refuses by name. What it left out or added is kept, by endpoint.
"""

import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

JSON = dict[str, Any]

CHANGES_MAX: Final = 40
GIVEN: Final[JSON] = {"model": "gpt-4o-mini", "input": "string"}
"""What is added where a test leaves out what a request cannot do without here."""
_FILE: Final = "POST /v1/files"
_ASSISTANTS: Final = b"\r\n\r\nassistants\r\n"
_USER_DATA: Final = b"\r\n\r\nuser_data\r\n"
_VALUES: Final[dict[str, dict[str, tuple[Any, Any]]]] = {
    "POST /v1/uploads": {"bytes": (0, 1), "purpose": ("assistants", "user_data")},
}
"""Values of the tests that mean nothing here, and what is sent in their place."""
LINE: Final = (
    '{"custom_id": "1", "method": "POST", "url": "/v1/responses", '
    '"body": {"model": "gpt-4o-mini", "input": "string"}}'
)


class Objects:
    """Makes the objects that placeholders stand for."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def response(self) -> str:
        body = {"model": "gpt-4o-mini", "input": "string", "background": True, "stream": True}
        answer = self._client.post("/v1/responses", json=body)
        answer.raise_for_status()
        found = re.search(r"resp_[0-9a-f]+", answer.text)
        assert found is not None
        return found.group()

    def conversation(self) -> str:
        said = {"type": "message", "role": "user", "content": "string"}
        return self._made("/v1/conversations", {"items": [said]})

    def item(self, conversation: str) -> str:
        answer = self._client.get(f"/v1/conversations/{conversation}/items")
        return str(answer.json()["data"][0]["id"])

    def completion(self) -> str:
        said = {"role": "user", "content": "string"}
        body = {"model": "gpt-4o-mini", "messages": [said], "store": True}
        return self._made("/v1/chat/completions", body)

    def file(self) -> str:
        files = {"file": ("lines.jsonl", f"{LINE}\n".encode())}
        answer = self._client.post("/v1/files", data={"purpose": "batch"}, files=files)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def batch(self) -> str:
        body = {
            "completion_window": "24h",
            "endpoint": "/v1/responses",
            "input_file_id": self.file(),
        }
        return self._made("/v1/batches", body)

    def upload(self) -> str:
        body = {
            "bytes": len(LINE),
            "filename": "lines.jsonl",
            "mime_type": "application/jsonl",
            "purpose": "batch",
        }
        return self._made("/v1/uploads", body)

    def part(self, upload: str) -> str:
        answer = self._client.post(f"/v1/uploads/{upload}/parts", files={"data": LINE.encode()})
        answer.raise_for_status()
        return str(answer.json()["id"])

    def _made(self, path: str, body: JSON) -> str:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        return str(answer.json()["id"])


class Relay:
    """One relay; `changed` is what it had to change, by endpoint."""

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60
        )
        self.changed: dict[str, set[str]] = defaultdict(set)
        self._objects = Objects(self.client)

    def ask(self, method: str, target: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """The server's answer to a request, once it has been made one that makes sense."""
        parts = urlsplit(target)
        endpoint, path, own = self._real(method, f"/v1{parts.path}")
        query = dict(parse_qsl(parts.query))
        kind = headers.get("content-type", "")
        fields = json.loads(body) if body and kind.startswith("application/json") else None
        if fields is not None:
            fields |= {name: make() for name, make in own.items() if name in fields}
            for name, (asked, sent) in _VALUES.get(endpoint, {}).items():
                if fields.get(name) == asked:
                    fields[name] = sent
                    self.changed[endpoint].add(f"{name}: {asked} → {sent}")
        elif endpoint == _FILE and _ASSISTANTS in body:
            body = body.replace(_ASSISTANTS, _USER_DATA)
            self.changed[endpoint].add("purpose: assistants → user_data")
        for _ in range(CHANGES_MAX):
            content = body if fields is None else json.dumps(fields).encode()
            answer = self.client.request(
                method, f"{path}?{urlencode(query)}".rstrip("?"), content=content, headers=headers
            )
            change = _change(answer, fields, query) if answer.is_client_error else None
            if change is None:
                return answer
            self.changed[endpoint].add(change)
        return answer

    def _real(self, method: str, path: str) -> tuple[str, str, dict[str, Callable[[], Any]]]:
        """The endpoint, the path with real ids, and what the body's placeholders are to be."""
        make = self._objects
        shown = path.strip("/").split("/")[1:]
        real = list(shown)
        own: dict[str, Callable[[], Any]] = {}

        def put(place: int, name: str, made: str) -> str:
            shown[place], real[place] = f"{{{name}}}", made
            return made

        match list(shown):
            case ["responses", one, *rest] if rest or _is_id(one):
                put(1, "response_id", make.response())
            case ["responses", *_]:
                own = {
                    "conversation": make.conversation,
                    "previous_response_id": make.response,
                }
            case ["conversations", _, *rest]:
                conversation = put(1, "conversation_id", make.conversation())
                if len(rest) == 2:
                    put(3, "item_id", make.item(conversation))
            case ["chat", "completions", _, *_]:
                put(2, "completion_id", make.completion())
            case ["files", _, *_]:
                put(1, "file_id", make.file())
            case ["batches", _, *_]:
                put(1, "batch_id", make.batch())
            case ["batches"]:
                own = {"input_file_id": make.file}
            case ["uploads", _, *_]:
                upload = put(1, "upload_id", make.upload())
                own = {"part_ids": lambda: [make.part(upload)]}
        return f"{method} /v1/{'/'.join(shown)}", f"/v1/{'/'.join(real)}", own


def _is_id(text: str) -> bool:
    return text.startswith("resp_") or text == "response_id"


def _change(answer: httpx.Response, fields: JSON | None, query: dict[str, str]) -> str | None:
    """Change one thing that the server names, and tell what; None where there is nothing."""
    error = answer.json().get("error") or {}
    param = error.get("param") or ""
    if error.get("code") == "missing_required_parameter" and fields is not None and param in GIVEN:
        fields[param] = GIVEN[param]
        return f"+{param}"
    top = re.split(r"[.\[]", param)[0]
    if top in query:
        del query[top]
        return f"-{top}"
    if fields is None or top not in fields:
        return None
    inner = param.split(".") if "[" not in param else [top]
    owner = fields
    for name in inner[:-1]:
        owner = owner.get(name)
        if type(owner) is not dict:
            break
    if type(owner) is dict and inner[-1] in owner:
        del owner[inner[-1]]
        return f"-{'.'.join(inner)}"
    del fields[top]
    return f"-{top}"


@contextmanager
def relaying(url: str, key: str) -> Iterator[tuple[Relay, str]]:
    """A relay to this server, and the address it listens on."""
    relay = Relay(url, key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            kept = {
                name.lower(): value
                for name, value in self.headers.items()
                if name.lower() in ("content-type", "accept", "idempotency-key")
            }
            answer = relay.ask(self.command, self.path, kept, self.rfile.read(size))
            self.send_response(answer.status_code)
            if kind := answer.headers.get("content-type"):
                self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_DELETE = do_GET  # noqa: N815 - names that the base class looks for

        def log_message(self, *_words: Any) -> None:
            """Nothing: a test that fails says what there is to say."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that closes its connections is none; a failure is a failed test's."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield relay, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            relay.client.close()
