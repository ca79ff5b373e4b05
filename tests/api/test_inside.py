"""Requests that the server makes of itself."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.api.inside import Inside
from serve.core.call import BACKGROUND, Principal
from serve.core.roster import Key, Roster
from serve.settings.keys import digest_of

WHO = Principal("one")
KEY = Key("key_1", WHO.tenant, WHO.key, digest_of("sk"), created_s=0.0)
AUTHENTICATOR = Authenticator(Roster(1, keys=(KEY,)))


def inside(app: Any) -> Inside:
    one = Inside(AUTHENTICATOR)
    one.app = app
    return one


async def test_it_looks_like_any_other_request() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert AUTHENTICATOR.authenticate(scope["headers"]) == WHO
        assert (scope["path"], scope["method"]) == ("/v1/x", "POST")
        assert BACKGROUND.get()
        headers = [(b"x-request-id", b"req_1"), (b"retry-after", b"7")]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": message["body"][:5], "more_body": True})
        await send({"type": "http.response.body", "body": message["body"][5:]})

    answer = await inside(app)("/v1/x", {"a": "ü"}, WHO)
    assert (answer.status, answer.request_id, answer.retry_after_s) == (429, "req_1", 7)
    assert answer.body == {"a": "ü"}
    assert not BACKGROUND.get()


async def test_what_breaks_is_our_failure() -> None:
    async def app(*_: object) -> None:
        raise RuntimeError("a bug")

    answer = await inside(app)("/v1/x", {}, WHO)
    assert answer.status == 500
    assert answer.body["error"]["code"] == "internal"


async def test_a_withdrawn_key_asks_nothing() -> None:
    async def app(*_: object) -> None:
        raise AssertionError

    answer = await inside(app)("/v1/x", {}, Principal("gone"))
    assert answer.status == 401
    assert "good no more" in answer.body["error"]["message"]


async def test_a_cancel_reaches_the_request() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        begun.set()
        try:
            await receive()
        finally:
            ended.set()

    asking = asyncio.ensure_future(inside(app)("/v1/x", {}, WHO))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()
