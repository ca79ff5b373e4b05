"""`/v1/files` and `/v1/uploads` with the openai SDK and with bare HTTP."""

import hashlib
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Gateway


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


@pytest.fixture
def folder(gateway: Gateway) -> Path:
    return gateway.var_dir / "files"


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def test_a_file_from_its_upload_to_its_end(sdk: openai.OpenAI, folder: Path) -> None:
    data = bytes(range(256)) * 20_000
    made = sdk.files.create(file=("ünïcode name.bin", data), purpose="user_data")
    assert made.id.startswith("file-")
    assert (made.object, made.status, made.purpose) == ("file", "processed", "user_data")
    assert (made.filename, made.bytes) == ("ünïcode name.bin", len(data))
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == 30 * 86_400
    assert stat.S_IMODE((folder / made.id).stat().st_mode) == 0o600
    assert sdk.files.retrieve(made.id) == made
    assert sdk.files.content(made.id).read() == data
    assert sdk.files.delete(made.id).deleted
    assert made.id not in names(folder)
    for call in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            call(made.id)


def test_an_expiry_of_its_own(sdk: openai.OpenAI) -> None:
    made = sdk.files.create(
        file=("a", b"x"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert made.expires_at == made.created_at + 3600
    with pytest.raises(openai.BadRequestError, match=r"expires_after\.seconds"):
        sdk.files.create(
            file=("a", b"x"), purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 60},
        )  # fmt: skip


def test_pages_and_purposes(sdk: openai.OpenAI) -> None:
    purposes: Any = ("batch", "user_data", "batch")
    made = [sdk.files.create(file=(p, b"x"), purpose=p).id for p in purposes]
    assert [one.id for one in sdk.files.list(limit=2).data] == made[:0:-1]
    mine = sdk.files.list(after=made[0], order="asc", limit=1)
    assert [one.id for one in mine.data] == [made[1]]
    assert mine.has_more
    assert [one.id for one in sdk.files.list(after=made[0], order="asc")] == made[1:]
    batches = sdk.files.list(purpose="batch", limit=2)
    assert [one.id for one in batches.data] == [made[2], made[0]]
    with pytest.raises(openai.BadRequestError):
        sdk.files.list(after="file-none")


@pytest.mark.parametrize("purpose", ["assistants", "fine-tune", "vision", "evals", "x", ""])
def test_a_purpose_of_nothing_here(sdk: openai.OpenAI, folder: Path, purpose: Any) -> None:
    before = names(folder)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.files.create(file=("a", b"x"), purpose=purpose)
    assert refused.value.param == "purpose"
    assert names(folder) == before


def form(*parts: tuple[str, bytes], boundary: str = "B") -> bytes:
    body = b""
    for disposition, data in parts:
        head = f"--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n"
        body += head.encode() + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


PURPOSE = ('name="purpose"', b"batch")
FILE = ('name="file"; filename="a"', b"x")


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (form(PURPOSE), "multipart/form-data; boundary=B", "Missing required parameter: 'file'"),
        (form(FILE), "multipart/form-data; boundary=B", "Missing required parameter: 'purpose'"),
        (form(FILE, FILE, PURPOSE), "multipart/form-data; boundary=B", "more than once"),
        (form(FILE, PURPOSE, PURPOSE), "multipart/form-data; boundary=B", "more than once"),
        (form(FILE, PURPOSE)[:-9], "multipart/form-data; boundary=B", "ends before the form"),
        (b"rubbish", "multipart/form-data; boundary=B", "not a valid form"),
        (b"{}", "application/json", "multipart/form-data"),
        (form(FILE), "multipart/form-data", "multipart/form-data"),
        (form(FILE, PURPOSE, ('name="bytes"', b"1")), "multipart/form-data; boundary=B", "bytes"),
        (
            form(('name="purpose"', b"b" * 9000), FILE),
            "multipart/form-data; boundary=B",
            "purpose",
        ),
        (
            form(*((f'name="f{n}"', b"") for n in range(40))),
            "multipart/form-data; boundary=B",
            "more than 32 fields",
        ),
        (form(FILE, ('name="purpose"', b"\xff")), "multipart/form-data; boundary=B", "not UTF-8"),
    ],
)
def test_a_form_that_is_none(
    gateway: Gateway, folder: Path, content: bytes, kind: str, says: str
) -> None:
    before = names(folder)
    answer = gateway.client.post("/v1/files", content=content, headers={"content-type": kind})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert names(folder) == before


def test_fields_may_come_after_the_file(gateway: Gateway) -> None:
    odd = ('name="file"; filename="../../etc/pass\\wd\x01"', b"y" * 100)
    answer = gateway.client.post(
        "/v1/files",
        content=form(odd, PURPOSE),
        headers={"content-type": "multipart/form-data; boundary=B"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == 100
    assert "/" not in answer.json()["filename"]


def test_a_gigabyte_is_refused_before_it_has_come(gateway: Gateway, folder: Path) -> None:
    """Only its beginning is sent: what the head says is enough, and what is read is bounded."""
    before = names(folder)
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        "content-type: multipart/form-data; boundary=B\r\ncontent-length: 1073741824\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(head.encode())
        piece = b"x" * 2**20
        for _ in range(65):
            connection.sendall(piece)
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "files.file_mib" in answer
    assert names(folder) == before


def test_who_leaves_in_the_middle_leaves_nothing(gateway: Gateway, folder: Path) -> None:
    before = names(folder)
    body = form(FILE).partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + b"x" * 3 * 2**20
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        "content-type: multipart/form-data; boundary=B\r\ncontent-length: 9000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: names(folder) != before)
    until(lambda: names(folder) == before)
    assert gateway.client.get("/v1/files").is_success


def until(holds: Any, timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_upload_in_parts(sdk: openai.OpenAI, folder: Path) -> None:
    pieces = [b"a" * 1000, b"b" * 500, b"c"]
    upload = sdk.uploads.create(
        bytes=1501, filename="parts.txt", mime_type="text/plain", purpose="user_data"
    )
    assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
    parts = [sdk.uploads.parts.create(upload.id, data=piece).id for piece in pieces]
    with pytest.raises(openai.APIStatusError, match="more than the 1501") as refused:
        sdk.uploads.parts.create(upload.id, data=b"d")
    assert refused.value.status_code == 413
    with pytest.raises(openai.BadRequestError, match="1500 bytes"):
        sdk.uploads.complete(upload.id, part_ids=parts[:2])
    with pytest.raises(openai.BadRequestError, match="named twice"):
        sdk.uploads.complete(upload.id, part_ids=[*parts, parts[2]])
    with pytest.raises(openai.BadRequestError, match="no part 'part_x'"):
        sdk.uploads.complete(upload.id, part_ids=["part_x"])
    with pytest.raises(openai.BadRequestError, match="MD5"):
        sdk.uploads.complete(upload.id, part_ids=parts, md5="0" * 32)
    whole = pieces[1] + pieces[0] + pieces[2]
    done = sdk.uploads.complete(
        upload.id,
        part_ids=[parts[1], parts[0], parts[2]],
        md5=hashlib.md5(whole, usedforsecurity=False).hexdigest(),
    )
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.bytes, done.file.filename) == (1501, "parts.txt")
    assert sdk.files.content(done.file.id).read() == whole
    assert not names(folder) & set(parts)
    for call in (lambda: sdk.uploads.parts.create(upload.id, data=b"x"),
                 lambda: sdk.uploads.cancel(upload.id)):  # fmt: skip
        with pytest.raises(openai.ConflictError, match="completed already"):
            call()


def test_an_upload_that_is_cancelled(sdk: openai.OpenAI, folder: Path) -> None:
    upload = sdk.uploads.create(bytes=2, filename="a", mime_type="text/plain", purpose="batch")
    part = sdk.uploads.parts.create(upload.id, data=b"x").id
    assert part in names(folder)
    assert sdk.uploads.cancel(upload.id).status == "cancelled"
    assert part not in names(folder)
    with pytest.raises(openai.ConflictError, match="cancelled already"):
        sdk.uploads.complete(upload.id, part_ids=[part])
    with pytest.raises(openai.NotFoundError):
        sdk.uploads.cancel("upload_none")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": 2**39}, "bytes"),
        ({"filename": "a/b"}, "filename"),
        ({"purpose": "vision"}, "purpose"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
    ],
)
def test_an_upload_that_cannot_be(gateway: Gateway, change: dict[str, Any], param: str) -> None:
    body = {"bytes": 1, "filename": "a", "mime_type": "x/y", "purpose": "batch", **change}
    answer = gateway.client.post("/v1/uploads", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_part_of_a_file_may_be_asked(gateway: Gateway, sdk: openai.OpenAI) -> None:
    made = sdk.files.create(file=("a.html", b"0123456789"), purpose="user_data")
    answer = gateway.client.get(f"/v1/files/{made.id}/content", headers={"range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


def test_without_a_key(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url) as client:
        for method, path in (("POST", "/v1/files"), ("GET", "/v1/files"), ("GET", "/v1/batches"),
                             ("POST", "/v1/batches"), ("POST", "/v1/uploads")):  # fmt: skip
            assert client.request(method, path).status_code == 401
