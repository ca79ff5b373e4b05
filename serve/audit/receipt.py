"""Receipts: what is written down of one request, and the digests in it.

A digest is the SHA-256 of JSON with its keys sorted and without spaces, in UTF-8.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from serve.audit.keeping import TextKeeper
from serve.core.audit import Trail
from serve.core.call import Call, Timeline
from serve.core.ledger import Opened
from serve.core.said import Said
from serve.core.text import Text

JSON = dict[str, Any]

LONG_BYTES: Final = 64 * 1024
"""What is longer is digested in a thread: 64 KiB take about 0.1 ms."""
FIELD_MAX_CHARS: Final = 256
PROMPT: Final = frozenset({"add_special_tokens", "truncate_prompt_tokens"})
"""Numbers in an engine's request that are part of what was asked."""
LEFT_OUT: Final = frozenset({"cache_salt", "model", "stream", "stream_options", "priority"})
"""Fields that change nothing about an answer; the salt is a secret."""


_NOT_AGAIN: Final = frozenset({"cache_salt", "model"})


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON, in hexadecimal digits."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def asked_of(body: Mapping[str, Any]) -> tuple[JSON, JSON]:
    """What was asked, and how it was to be sampled: numbers, in which there is no text."""
    said = {name: value for name, value in body.items() if name not in LEFT_OUT}
    sampling = {
        name: value
        for name, value in said.items()
        if isinstance(value, int | float) and name not in PROMPT
    }
    prompt = {
        name: value for name, value in said.items() if value is not None and name not in sampling
    }
    return prompt, sampling


def answer_of(timeline: Timeline) -> Any:
    """What came back, as digests are made of it; None where nothing did."""
    said = timeline.said
    if isinstance(said, Said):
        return said.plain() or None
    if said is None:
        return None
    choices = said.get("choices")
    if choices is not None:
        return Said.whole(choices).plain()
    return said.get("data") or said.get("results") or {
        name: said[name] for name in ("tokens", "prompt", "count") if name in said
    }  # fmt: skip


def again_of(call: Call) -> JSON:
    """All that it takes to ask the same again."""
    return {
        "endpoint": call.endpoint,
        "path": call.path,
        "choices": call.choices,
        "max_output_tokens": call.max_output_tokens,
        "body": {name: value for name, value in call.body.items() if name not in _NOT_AGAIN},
    }


def receipt_of(call: Call, timeline: Timeline, *, text: bool) -> JSON:
    """The record of one request; `text` says whether its text is kept beside the log."""
    prompt, sampling = asked_of(call.body)
    answer = answer_of(timeline)
    usage, source = timeline.usage, timeline.provenance
    seed = sampling.pop("seed", None)
    return {
        "request_id": call.request_id,
        "tenant": call.principal.tenant,
        "key": call.principal.key,
        "endpoint": call.endpoint,
        "model": timeline.model_id[:FIELD_MAX_CHARS],
        "outcome": timeline.outcome,
        "finish": timeline.finish[:FIELD_MAX_CHARS],
        "fingerprint": timeline.fingerprint,
        "weights": source.weights,
        "adapter": source.adapter,
        "config": source.config,
        "engine": source.engine,
        "seed": seed,
        "sampling": sampling,
        "tokens_in": usage.prompt,
        "tokens_cached": usage.cached,
        "tokens_out": usage.completion,
        "prompt_sha256": digest(prompt),
        "answer_sha256": None if answer is None else digest(answer),
        "text": text,
    }


def crashed(opened: Opened) -> JSON:
    """The record of a request that an earlier process had open when it ended."""
    return {
        "request_id": opened.request_id,
        "tenant": opened.tenant,
        "key": opened.key,
        "endpoint": opened.endpoint,
        "model": opened.model[:FIELD_MAX_CHARS],
        "outcome": "crashed",
        "text": False,
    }


class Receipts:
    """Writes a receipt for each request that was admitted: `claim` before, `write` after.

    `text_begun` tells a tenant's erasures so far, where its texts are to be kept.
    """

    def __init__(
        self,
        trail: Trail,
        texts: TextKeeper | None = None,
        text_begun: Callable[[str], int | None] = lambda tenant: None,
    ) -> None:
        self._trail = trail
        self._texts = texts
        self._text_begun = text_begun
        self._long: set[asyncio.Task[None]] = set()

    def claim(self, tenant: str) -> int | None:
        """See `serve.metering.meter.Receipts`."""
        self._trail.claim()
        return self._text_begun(tenant)

    def unclaim(self) -> None:
        """It does not come."""
        self._trail.unclaim()

    def write(self, call: Call, timeline: Timeline, then: Callable[[], None]) -> None:
        """Write it, and `then` go on: the ledger settles what has a receipt, never before.

        A long one is digested in a thread meanwhile.
        """
        if timeline.body_bytes > LONG_BYTES or _is_long(timeline.said):
            task = asyncio.create_task(self._in_thread(call, timeline, then))
            self._long.add(task)
            task.add_done_callback(self._long.discard)
            return
        self._record(call, timeline, receipt_of(call, timeline, text=self._keeps(timeline)))
        then()

    async def close(self) -> None:
        """Wait for those that are being made, and for their texts."""
        while self._long:
            await asyncio.wait(self._long)
        if self._texts is not None:
            await self._texts.close()

    async def _in_thread(self, call: Call, timeline: Timeline, then: Callable[[], None]) -> None:
        keeps = self._keeps(timeline)
        receipt = await asyncio.to_thread(receipt_of, call, timeline, text=keeps)
        self._record(call, timeline, receipt)
        then()

    def _keeps(self, timeline: Timeline) -> bool:
        return (
            self._texts is not None
            and timeline.text_begun is not None
            and self._texts.has_room(timeline.body_bytes)
        )

    def _record(self, call: Call, timeline: Timeline, receipt: JSON) -> None:
        self._trail.record("request", receipt, claimed=True)
        if receipt["text"] and self._texts is not None:
            text = Text(
                call.request_id, call.principal.tenant, again_of(call), answer_of(timeline),
                receipt, timeline.text_begun,
            )  # fmt: skip
            self._texts.give(text, timeline.body_bytes)


def _is_long(said: Said | Mapping[str, Any] | None) -> bool:
    """Whether an answer may be large: vectors are."""
    return isinstance(said, Mapping) and len(said.get("data") or ()) > 16
