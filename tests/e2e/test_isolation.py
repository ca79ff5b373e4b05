"""vLLM's prefix cache as tenants of one server find it: each its own prompts, groups theirs."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway
from tests.http.tenancy import Desk

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROMPT = " ".join(f"Rule {n}: be brief and kind." for n in range(40))


@pytest.fixture
def desk(real: Gateway) -> Iterator[Desk]:
    with Desk(real) as one:
        yield one


def cached(client: httpx.Client, path: str, body: dict[str, Any]) -> int:
    """Tokens of the prompt that the engine had computed before."""
    answer = client.post(path, json={"model": "small", "max_tokens": 1, **body}, timeout=120)
    assert answer.is_success, answer.text
    usage = answer.json()["usage"]
    assert usage["prompt_tokens"] > 250
    return int(usage["prompt_tokens_details"]["cached_tokens"])


BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
    "text": ("/v1/completions", {"prompt": PROMPT}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_who_has_asked_a_prompt_finds_it_cached_and_nobody_else(desk: Desk, kind: str) -> None:
    path, body = BODIES[kind]
    for name in ("a", "b"):
        desk.tenant(f"{kind}-{name}")
    for name in ("c", "d"):
        desk.tenant(f"{kind}-{name}", settings={"cache_group": kind})
    a, b, c, d = (desk.asking("k", f"{kind}-{name}") for name in "abcd")
    assert cached(a, path, body) == 0
    assert cached(a, path, body) > 200
    assert cached(b, path, body) == 0, "another tenant"
    assert cached(c, path, body) == 0, "a group, of whom nobody has asked it"
    assert cached(d, path, body) > 200, "another of that group"
    assert cached(b, path, body) > 200
