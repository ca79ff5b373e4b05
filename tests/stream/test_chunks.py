"""Streams shaped from vLLM's events: parsed by the SDK's own types."""

from typing import Any

import orjson
from openai.types.chat import ChatCompletionChunk

from serve.core.errors import EngineError, InvalidRequest, RequestError
from serve.stream.answer import Shape
from serve.stream.chunks import ChatChunks, CompletionChunks
from serve.stream.sse import DONE, Decoder


def shape(**changes: Any) -> Shape:
    given = {"id": "chatcmpl-1", "model": "m-2026-11-01", "fingerprint": "fp", "created": 1}
    return Shape(**({"choices": 1} | given | changes))


def event(*choices: dict[str, Any], **rest: Any) -> bytes:
    return orjson.dumps({"id": "x", "model": "y", "choices": list(choices)} | rest)


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "logprobs": None, "finish_reason": finish,
            "stop_reason": None, "token_ids": None}  # fmt: skip


def chunks_of(frames: bytes) -> list[ChatCompletionChunk]:
    payloads = Decoder().feed(frames)
    return [ChatCompletionChunk.model_validate_json(p) for p in payloads if p != DONE]


def test_role_once_finish_once_and_nothing_of_vllm() -> None:
    stream = ChatChunks(shape())
    frames = stream.feed(
        [
            event(delta(role="assistant", content="")),
            event(delta(content="Par")),
            event(delta(content="")),
            event(delta(content="is", finish="stop")),
            event(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
            DONE,
        ]
    )
    assert b"stop_reason" not in frames
    assert b"token_ids" not in frames
    assert frames.endswith(b"data: [DONE]\n\n")
    chunks = chunks_of(frames)
    assert [c.choices[0].delta.role for c in chunks] == ["assistant", None, None]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Paris"
    assert [c.choices[0].finish_reason for c in chunks] == [None, None, "stop"]
    assert {c.model for c in chunks} == {"m-2026-11-01"}
    assert stream.usage is not None
    assert stream.usage.completion == 2
    assert stream.finished


def test_usage_chunk_only_when_asked_for() -> None:
    payloads = [
        event(delta(role="assistant", content="a", finish="stop")),
        event(usage={"prompt_tokens": 3, "completion_tokens": 1}),
        DONE,
    ]
    assert all(chunk.choices for chunk in chunks_of(ChatChunks(shape()).feed(payloads)))
    frames = ChatChunks(shape(include_usage=True)).feed(payloads)
    first, last = chunks_of(frames)
    assert first.usage is None
    assert b'"usage":null' in frames
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 4


def test_reasoning_goes_out_under_both_names() -> None:
    frames = ChatChunks(shape()).feed([event(delta(reasoning="hm"))])
    sent = orjson.loads(Decoder().feed(frames)[0])["choices"][0]["delta"]
    assert sent["reasoning"] == sent["reasoning_content"] == "hm"


def failure_of(*payloads: bytes, **changes: Any) -> RequestError:
    stream = ChatChunks(shape(**changes))
    stream.feed(list(payloads))
    assert stream.failure is not None
    assert not stream.finished
    return stream.failure


def test_an_error_frame_is_an_error() -> None:
    broken = failure_of(orjson.dumps({"error": {"message": "secret", "code": 500}}))
    assert isinstance(broken, EngineError)
    assert "secret" not in broken.message
    refused = failure_of(orjson.dumps({"error": {"message": "too long", "code": 400}}))
    assert isinstance(refused, InvalidRequest)


def test_what_came_before_an_error_is_still_sent() -> None:
    stream = ChatChunks(shape())
    frames = stream.feed([event(delta(content="a")), event(delta(finish="abort"))])
    assert [c.choices[0].delta.content for c in chunks_of(frames)] == ["a"]
    assert stream.failure is not None


def test_done_before_every_choice_ended_is_an_error() -> None:
    assert "whole" in failure_of(event(delta(content="a", finish="stop")), DONE, choices=2).message


def test_a_choice_that_ends_twice_is_an_error() -> None:
    end = event(delta(content="a", finish="stop"))
    assert "twice" in failure_of(end, end).message


def test_abort_is_an_error() -> None:
    assert "abort" in failure_of(event(delta(finish="abort"))).message


def test_completion_chunks() -> None:
    stream = CompletionChunks(shape(id="cmpl-1"))
    frames = stream.feed(
        [
            event({"index": 0, "text": "a", "logprobs": None, "finish_reason": None}),
            event({"index": 0, "text": "b", "finish_reason": "length", "stop_reason": None}),
            DONE,
        ]
    )
    sent = [orjson.loads(p) for p in Decoder().feed(frames) if p != DONE]
    assert [c["choices"][0]["text"] for c in sent] == ["a", "b"]
    assert sent[0]["object"] == "text_completion"
    assert sent[1]["choices"][0] == {
        "index": 0, "text": "b", "logprobs": None, "finish_reason": "length",
    }  # fmt: skip
