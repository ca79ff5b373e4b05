"""Lines of the log: one JSON object each, fields kept, console for people."""

import json
import logging

import pytest

from serve import log


@pytest.fixture(autouse=True)
def restored() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level, log._direct
    yield
    root.handlers[:], root.level, log._direct = before


def test_json_lines(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    logging.getLogger("x").info("said %s", "it", extra={"model": "m"})
    logging.getLogger("x").debug("not said")
    log.info("inhouse.request", "request", {"request_id": "req_1", "tokens_in": 3})
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["said it", "request"]
    assert lines[0]["model"] == "m"
    assert lines[1]["request_id"] == "req_1"
    assert {line["level"] for line in lines} == {"info"}


def test_a_traceback_is_a_field(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capfd.readouterr().err.splitlines()
    assert "ValueError: bad" in json.loads(line)["exception"]


def test_console_and_levels(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", "console")
    log.info("x", "not said", {})
    logging.getLogger("x").warning("careful", extra={"model": "m", "none": None})
    text = capfd.readouterr().err
    assert "careful  model=m" in text
    assert "none" not in text
    assert "not said" not in text
