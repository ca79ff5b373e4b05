"""Receipts: what they hold, how long ones are made, and whose texts are kept."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from serve.audit.keeping import WAITING_MAX_BYTES, TextKeeper
from serve.audit.receipt import (
    LONG_BYTES,
    Receipts,
    answer_of,
    digest,
    receipt_of,
)
from serve.core.call import Call, Principal, Timeline
from serve.core.errors import StorageUnavailable
from serve.core.text import Text


class Kept:
    """A trail, and a place for texts, in memory."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.claims = 0
        self.texts: list[Text] = []
        self.down = False

    def claim(self) -> None:
        self.claims += 1

    def unclaim(self) -> None:
        self.claims -= 1

    def record(self, kind: str, fields: Mapping[str, Any], *, claimed: bool = False) -> None:
        assert (kind, claimed) == ("request", True)
        self.claims -= 1
        self.records.append(fields)

    async def durable(self) -> None:
        return

    async def add(self, texts: Sequence[Text]) -> None:
        if self.down:
            raise StorageUnavailable("down")
        self.texts.extend(texts)


def call(**body: Any) -> Call:
    body = {"model": "m@1", "cache_salt": "secret", "messages": [{"content": "hi"}]} | body
    path = "/v1/chat/completions"
    who = Principal("key", "lab")
    return Call("req_1", "chat.completions", path, who, "m", body, 1, False, 0.0)


def ended(**fields: Any) -> Timeline:
    said = {"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}
    return Timeline("m", 0.0, 0.0, **({"said": said} | fields))


def test_what_was_asked_and_how_it_is_sampled_are_apart() -> None:
    one = receipt_of(call(seed=3, top_p=0.5, stream=True, user=None), ended(), text=False)
    assert (one["seed"], one["sampling"]) == (3, {"top_p": 0.5})
    assert one["prompt_sha256"] == digest({"messages": [{"content": "hi"}]})
    assert "secret" not in str(one)
    other = receipt_of(call(tools=[{"type": "function"}]), ended(), text=False)
    assert other["prompt_sha256"] != one["prompt_sha256"]


def test_words_are_told_by_their_digest_alone() -> None:
    fields: dict[str, Any] = {"stop": ["secret"], "logit_bias": {"7": 1.0}, "logprobs": True}
    one = receipt_of(call(**fields), ended(), text=False)
    assert one["sampling"] == {"logprobs": True}
    asked = {"messages": [{"content": "hi"}], "stop": ["secret"], "logit_bias": {"7": 1.0}}
    assert one["prompt_sha256"] == digest(asked)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (None, None),
        ({"data": [{"index": 0, "embedding": "AAAA"}]}, [{"index": 0, "embedding": "AAAA"}]),
        ({"results": [{"index": 1}], "id": "x"}, [{"index": 1}]),
        ({"count": 2, "tokens": [1, 2], "max_model_len": 9}, {"tokens": [1, 2], "count": 2}),
    ],
)
def test_answers_of_all_kinds(said: Any, answer: Any) -> None:
    assert answer_of(ended(said=said)) == answer
    one = receipt_of(call(), ended(said=said), text=False)
    assert one["answer_sha256"] == (None if answer is None else digest(answer))


@pytest.mark.parametrize(
    "timeline",
    [ended(body_bytes=LONG_BYTES + 1), ended(said={"data": [{"embedding": "A"}] * 17})],
)
async def test_a_long_one_is_made_in_a_thread_and_then_settled(timeline: Timeline) -> None:
    kept, settled = Kept(), []
    receipts = Receipts(kept)
    receipts.claim("lab")
    receipts.write(call(), timeline, lambda: settled.append(len(kept.records)))
    assert (kept.records, settled) == ([], [])
    await receipts.close()
    assert (len(kept.records), settled, kept.claims) == (1, [1], 0)


async def test_texts_are_kept_of_those_who_want_that() -> None:
    kept = Kept()
    receipts = Receipts(kept, TextKeeper(kept), lambda tenant: 4 if tenant == "lab" else None)
    for tenant in ("lab", "other"):
        begun = receipts.claim(tenant)
        receipts.write(call(temperature=0), ended(text_begun=begun), lambda: None)
    await receipts.close()
    assert [one["text"] for one in kept.records] == [True, False]
    (text,) = kept.texts
    assert (text.begun, text.receipt) == (4, kept.records[0])
    assert text.asked["body"] == {"messages": [{"content": "hi"}], "temperature": 0}
    assert text.answer[0]["content"] == "yes"


async def test_texts_wait_for_a_database_that_is_away_and_are_bounded() -> None:
    kept = Kept()
    kept.down = True
    keeper = TextKeeper(kept)
    receipts = Receipts(kept, keeper, lambda tenant: 0)
    for size in (1, WAITING_MAX_BYTES, 1):
        timeline = ended(text_begun=receipts.claim("lab"), body_bytes=size)
        done = asyncio.Event()
        receipts.write(call(), timeline, done.set)
        await done.wait()
    assert [one["text"] for one in kept.records] == [True, False, True]
    await asyncio.sleep(0.1)
    kept.down = False
    await receipts.close()
    assert len(kept.texts) == 2
