"""What a person at the terminal sees while the server starts, and once it answers."""

import asyncio
import time

from rich.console import Console
from rich.status import Status
from rich.text import Text

from serve.engines.supervisor import EngineStatus
from serve.server import Server

REFRESH_S = 0.5


async def announce(server: Server, console: Console, key: str | None) -> None:
    """Show each engine's start, then how to reach the server; returns when that is shown."""
    engines = [one for one in server.pipeline.served if one.model.load == "startup"]
    began_s = time.monotonic()
    with console.status("starting") as status:
        while True:
            states = [one.backend.status for one in engines]
            if all(one.state in ("ready", "failed") for one in states):
                break
            _show(status, states, time.monotonic() - began_s)
            await asyncio.sleep(REFRESH_S)
    elapsed_s = time.monotonic() - began_s
    for one in states:
        mark = "ready" if one.state == "ready" else f"failed: {one.last_error}"
        console.print(f"{one.model_id}: {mark}", markup=False)
    if any(one.state == "ready" for one in states):
        console.print(f"ready after {elapsed_s:.0f} s")
        # Without a frame and unwrapped: it is there to be pasted.
        console.print(snippets(server, key), markup=False, soft_wrap=True)
    else:
        console.print("no model could be started; `inhouse doctor` says what is missing")


def snippets(server: Server, key: str | None) -> str:
    """Address, key, and a request in curl and in Python, each to be pasted as it stands."""
    listen = server.site.listen
    host = "127.0.0.1" if listen.host in ("0.0.0.0", "::") else listen.host  # noqa: S104 - shown
    address = f"http://{host}:{listen.port}/v1"
    model = next(
        (one.model.config.name for one in server.pipeline.served
         if one.model.config.task == "generate"),
        server.pipeline.served[0].model.config.name,
    )  # fmt: skip
    shown = key or ("none" if server.site.auth.mode == "none" else "sk-…")
    return f"""
address  {address}
key      {shown}

curl {address}/chat/completions \\
  -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "temperature": 0, "messages": [{{"role": "user", \
"content": "What is the capital of France?"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{address}", api_key="{shown}")
answer = client.chat.completions.create(
    model="{model}",
    temperature=0,
    messages=[{{"role": "user", "content": "What is the capital of France?"}}],
)
print(answer.choices[0].message.content)

Ctrl-C stops: requests in hand are finished first."""


def _show(status: Status, states: list[EngineStatus], elapsed_s: float) -> None:
    parts = [f"{one.model_id}: {one.state}" for one in states]
    errors = [f" (last error: {one.last_error})" for one in states if one.last_error]
    status.update(Text(f"{'  '.join(parts)}  {elapsed_s:.0f} s{''.join(errors)[:200]}"))
