"""What `inhouse batches` shows."""

from serve.cli.batches import lines


def test_no_batches() -> None:
    assert lines({"data": []}, 0) == ["there are no batches"]


def test_rows() -> None:
    one = {
        "id": "batch_1", "status": "in_progress", "key": "nightly", "created_at": 1000,
        "endpoint": "/v1/embeddings", "expires_at": 87_400,
        "request_counts": {"total": 50_000, "completed": 1234, "failed": 5},
    }  # fmt: skip
    other = {**one, "id": "batch_22", "status": "completed"}
    assert [line.split() for line in lines({"data": [one, other]}, 1090)] == [
        ["batch", "status", "key", "endpoint", "lines", "done", "failed", "age", "left"],
        ["batch_1", "in_progress", "nightly", "/v1/embeddings", "50000", "1234", "5",
         "90", "s", "23", "h"],
        ["batch_22", "completed", "nightly", "/v1/embeddings", "50000", "1234", "5", "90", "s",
         "-"],
    ]  # fmt: skip
