"""The SSE decoder against every way bytes can be cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.core.errors import EngineError
from serve.stream import sse

PAYLOADS = st.lists(
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1),
    max_size=6,
)


@given(PAYLOADS, st.data())
def test_any_cut_gives_the_same_payloads(payloads: list[str], data: st.DataObject) -> None:
    wire = b"".join(b"data: " + p.encode() + b"\n\n" for p in payloads)
    decoder = sse.Decoder()
    found: list[bytes] = []
    rest = wire
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        found += decoder.feed(rest[:cut])
        rest = rest[cut:]
    assert found == [p.encode() for p in payloads]


def test_line_separators_of_unicode_do_not_end_a_line() -> None:
    payload = '{"content":"a\u2028b\u0085c"}'.encode()
    assert sse.Decoder().feed(b"data: " + payload + b"\n\n") == [payload]


def test_comments_and_other_fields_are_left_out() -> None:
    wire = b": keep-alive\n\nevent: x\nid: 1\ndata:one\ndata: two\r\n\n"
    assert sse.Decoder().feed(wire) == [b"", b"one\ntwo"]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_MAX_BYTES", 10)
    with pytest.raises(EngineError, match="larger"):
        sse.Decoder().feed(b"data: " + b"x" * 20)
