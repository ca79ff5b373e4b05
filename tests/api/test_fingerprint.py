"""What tells one request from another."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from serve.api.fingerprint import Fingerprint


def scope(path: str = "/v1/files", query: bytes = b"", kind: bytes = b"") -> Scope:
    headers = [(b"content-type", kind)] if kind else []
    return {"method": "POST", "path": path, "query_string": query, "headers": headers}


def of(at: Scope, *parts: bytes) -> str:
    taken = Fingerprint(at)
    for number, part in enumerate(parts):
        more = number < len(parts) - 1
        taken.feed({"type": "http.request", "body": part, "more_body": more})
        assert taken.whole is not more
    assert taken.size_bytes == sum(map(len, parts))
    return taken.digest()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_how_a_body_is_cut_does_not_count(parts: list[bytes]) -> None:
    assert of(scope(), *parts) == of(scope(), b"".join(parts))


def test_each_part_counts() -> None:
    seen = {
        of(scope(), b"a"), of(scope(), b"b"), of(scope(), b""),
        of(scope("/v1/other"), b"a"), of(scope(query=b"x=1"), b"a"),
        of(scope("/v1/files", b"x"), b"a"), of(scope("/v1/filesx"), b"a"),
    }  # fmt: skip
    assert len(seen) == 7


def form(boundary: bytes, content: bytes) -> bytes:
    return b"\r\n".join(
        [b"--" + boundary, b'content-disposition: form-data; name="file"', b"", content,
         b"--" + boundary + b"--", b""]
    )  # fmt: skip


@given(st.binary(max_size=60), st.data())
def test_a_forms_boundary_does_not_count(content: bytes, data: st.DataObject) -> None:
    seen = set()
    for boundary in (b"x123456789", b"another-and-longer-one"):
        body = form(boundary, content)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        kind = b'multipart/form-data; boundary="' + boundary + b'"'
        seen.add(of(scope(kind=kind), *parts))
    assert len(seen) == 1
    other = form(b"x123456789", content + b"!")
    assert of(scope(kind=b"multipart/form-data; boundary=x123456789"), other) not in seen
