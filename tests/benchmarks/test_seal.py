import base64
import datetime
import json
from pathlib import Path

import pytest

from benchmarks.load.result import save
from benchmarks.load.seal import (
    age_days,
    is_capture,
    make_key,
    opened,
    private_key,
    public_key,
    sealed,
)
from serve.core.errors import SettingsError
from tests.benchmarks.test_compare import result, times
from tests.cli.test_bench import inhouse

RESULT = result(times(1.0, count=3))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    make_key(tmp_path / "k")
    save(tmp_path / "c.json", sealed(RESULT, private_key(tmp_path / "k")))
    return tmp_path / "c.json"


def test_what_was_signed_is_what_is_read(capture: Path) -> None:
    assert is_capture(capture)
    assert opened(capture, public_key(capture.with_name("k.pub"))) == RESULT
    assert (capture.with_name("k").stat().st_mode & 0o777) == 0o600


def test_the_signature_is_over_dsses_encoding(capture: Path) -> None:
    """As any other reader of DSSE would check it."""
    envelope = json.loads(capture.read_text())
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    public_key(capture.with_name("k.pub")).verify(signature, message)
    assert json.loads(body)["schema"] == "inhouse.load/1"


def test_another_key_is_not_believed(capture: Path) -> None:
    other = make_key(capture.with_name("other"))
    with pytest.raises(SettingsError, match="not of the pinned key"):
        opened(capture, public_key(other))


def test_a_changed_capture_is_not_believed(capture: Path) -> None:
    envelope = json.loads(capture.read_text())
    body = base64.b64decode(envelope["payload"]).replace(b'"outcome":"ok"', b'"outcome":"cut"', 1)
    capture.write_text(json.dumps(envelope | {"payload": base64.b64encode(body).decode()}))
    with pytest.raises(SettingsError, match="or the capture was changed"):
        opened(capture, public_key(capture.with_name("k.pub")))


@pytest.mark.parametrize(
    "content", ["{}", '{"payloadType": "x"}', '{"payload": "!", "signatures": []}']
)
def test_what_is_no_capture_is_refused(capture: Path, content: str) -> None:
    capture.write_text(content)
    with pytest.raises(SettingsError, match="not a capture"):
        opened(capture, public_key(capture.with_name("k.pub")))


def test_keys_are_not_overwritten_and_not_mistaken(capture: Path) -> None:
    with pytest.raises(SettingsError, match="is there already"):
        make_key(capture.with_name("k"))
    with pytest.raises(SettingsError, match="inhouse bench key"):
        private_key(capture)
    with pytest.raises(SettingsError, match=r"the \.pub file"):
        public_key(capture.with_name("k"))


def test_age_is_in_days() -> None:
    now = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
    assert age_days(RESULT, now) == 1.5


def test_the_command_line_wants_a_pinned_key_and_a_young_capture(tmp_path: Path) -> None:
    assert inhouse(tmp_path, "key", "k").returncode == 0
    now = datetime.datetime.now(datetime.UTC).isoformat()
    young = RESULT.model_copy(update={"started_at": now})
    old = RESULT.model_copy(update={"started_at": "2020-01-01T00:00:00+00:00"})
    for name, made in (("old.json", old), ("new.json", young)):
        save(tmp_path / name, sealed(made, private_key(tmp_path / "k")))
    done = inhouse(tmp_path, "compare", "new.json", "new.json", "--pinned", "k.pub")
    assert done.returncode in (0, 4)  # three requests may be too few
    assert "new.json: signed by k.pub, 0.0 days old" in done.stderr
    done = inhouse(tmp_path, "compare", "new.json", "new.json")
    assert (done.returncode, "--pinned" in done.stderr) == (2, True)
    done = inhouse(tmp_path, "compare", "new.json", "old.json", "--pinned", "k.pub")
    assert (done.returncode, "capture it anew" in done.stderr) == (2, True)
