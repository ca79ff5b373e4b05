import pytest

from benchmarks.load.sse import DONE, Counter, Splitter, token_text, usage_of

STREAM = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b": a comment\n\n"
    b'data: {"choices":[{"delta":{"content":"one\xe2\x80\xa8two"}}]}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":1}}\r\n\r\n'
    b"data: [DONE]\n\n"
)
PAYLOADS = [
    b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
    b'{"choices":[{"delta":{"content":"one\xe2\x80\xa8two"}}]}',
    b'{"choices":[],"usage":{"completion_tokens":1}}',
    DONE,
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
def test_splitter_gives_the_same_payloads_however_the_bytes_arrive(size: int) -> None:
    splitter = Splitter()
    found = [
        payload
        for start in range(0, len(STREAM), size)
        for payload in splitter.feed(STREAM[start : start + size])
    ]
    assert found == PAYLOADS


def test_line_separator_inside_json_does_not_split() -> None:
    text = "x\u2028y\u2029z\x85"
    payload = f'{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}'.encode()
    (found,) = Splitter().feed(b"data: " + payload + b"\n\n")
    assert token_text(found) == text


def test_data_of_several_lines_is_joined() -> None:
    assert Splitter().feed(b"data: a\ndata:b\n\n") == [b"a\nb"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_counter_counts_each_event_once(size: int) -> None:
    counter, stream = Counter(), b"data: 1\n\ndata: 22\n\ndata: 333\n\n"
    for start in range(0, len(stream), size):
        counter.feed(stream[start : start + size])
    assert counter.events == 3


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (PAYLOADS[0], None),
        (PAYLOADS[2], None),
        (DONE, None),
        (b'{"choices":[{"text":"word"}]}', "word"),
        (b'{"choices":[{"delta":{"reasoning":"hm"}}]}', "hm"),
        (b'{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', ""),
    ],
)
def test_a_token_is_a_delta_that_is_not_empty(payload: bytes, text: str | None) -> None:
    assert token_text(payload) == text


def test_usage_comes_from_the_usage_chunk() -> None:
    assert usage_of(PAYLOADS[2]) == {"completion_tokens": 1}
    assert usage_of(PAYLOADS[1]) is None
    assert usage_of(DONE) is None
