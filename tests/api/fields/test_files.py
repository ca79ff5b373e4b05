"""The tables of files, uploads and batches: every parameter of the SDK, and what each does."""

from typing import Any

import pytest
from openai.types import (
    batch_create_params,
    file_create_params,
    upload_complete_params,
    upload_create_params,
)
from openai.types.uploads import part_create_params

from serve.api.fields.batches import BATCH, check_batch
from serve.api.fields.fate import Table
from serve.api.fields.files import (
    FILE,
    UPLOAD,
    UPLOAD_COMPLETE,
    UPLOAD_PART,
    check_complete,
    check_file,
    check_upload,
)
from serve.core.errors import InvalidRequest

EXPIRY = {"anchor": "created_at", "seconds": 7200}
NEW_BATCH = {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}
NEW_UPLOAD = {"filename": "a", "purpose": "batch", "bytes": 1, "mime_type": "x/y"}


@pytest.mark.parametrize(
    ("table", "params"),
    [
        (FILE, file_create_params.FileCreateParams),
        (UPLOAD, upload_create_params.UploadCreateParams),
        (UPLOAD_PART, part_create_params.PartCreateParams),
        (UPLOAD_COMPLETE, upload_complete_params.UploadCompleteParams),
        (BATCH, batch_create_params.BatchCreateParams),
    ],
    ids=lambda value: getattr(value, "endpoint", ""),
)
def test_every_parameter_of_the_sdk_has_a_fate(table: Table, params: Any) -> None:
    assert params.__annotations__.keys() == table.fields.keys()


def test_what_is_read() -> None:
    assert check_file({"purpose": "user_data", "expires_after": EXPIRY}) == ("user_data", 7200)
    assert check_file({"purpose": "batch"}) == ("batch", None)
    upload = check_upload({**NEW_UPLOAD, "expires_after": EXPIRY})
    assert (upload.size_bytes, upload.mime_type, upload.keep_s) == (1, "x/y", 7200)
    assert check_complete({"part_ids": ["a", "b"], "md5": "0" * 32}) == (["a", "b"], "0" * 32)
    asked = check_batch({**NEW_BATCH, "metadata": {"a": "b"}, "output_expires_after": EXPIRY})
    assert (asked.input_file_id, asked.endpoint) == ("file-1", "/v1/embeddings")
    assert (asked.metadata, asked.output_keep_s) == ({"a": "b"}, 7200)


@pytest.mark.parametrize(
    ("window", "seconds"), [("24h", 86_400), ("1m", 60), ("90m", 5400), ("7d", 604_800)]
)
def test_windows(window: str, seconds: int) -> None:
    asked = check_batch({**NEW_BATCH, "completion_window": window})
    assert (asked.window, asked.window_s) == (window, seconds)


@pytest.mark.parametrize("window", ["", "24", "0h", "24H", " 24h", "8d", "169h", "1w", "٣h", 24])
def test_windows_that_are_none(window: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_batch({**NEW_BATCH, "completion_window": window})
    assert refused.value.param == "completion_window"


@pytest.mark.parametrize(
    ("expiry", "param"),
    [
        ("x", "expires_after"),
        ({}, "expires_after.anchor"),
        ({"anchor": "created_at"}, "expires_after.seconds"),
        ({"anchor": "last_active_at", "seconds": 7200}, "expires_after.anchor"),
        ({"anchor": "created_at", "seconds": 3599}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": 2_592_001}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": True}, "expires_after.seconds"),
        ({**EXPIRY, "x": 1}, "expires_after.x"),
    ],
)
def test_an_expiry_that_is_none(expiry: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_file({"purpose": "batch", "expires_after": expiry})
    assert refused.value.param == param
