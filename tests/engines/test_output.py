import asyncio
import logging
import os
from pathlib import Path

import pytest

from serve.engines.output import LINE_MAX_BYTES, TAIL_LINES, Output


def written(*pieces: bytes) -> Output:
    """An output into which these pieces were written one after another, then closed."""

    async def main() -> Output:
        output = Output("small")
        for piece in pieces:
            os.write(output.write_end, piece)
            await asyncio.sleep(0.001)
        output.close()
        return output

    return asyncio.run(main())


def test_lines_are_joined_across_reads_and_a_last_one_needs_no_end() -> None:
    assert written(b"one\ntw", b"o\nthr", b"ee").tail == ("one", "two", "three")


def test_only_the_last_lines_are_kept() -> None:
    lines = written(b"".join(b"line %d\n" % i for i in range(500))).tail
    assert len(lines) == TAIL_LINES
    assert lines[-1] == "line 499"


def test_a_line_without_end_is_cut() -> None:
    output = written(*[b"x" * 10_000] * 5, b"\nnext\n")
    assert [len(line) for line in output.tail] == [LINE_MAX_BYTES, 4]


def test_progress_bars_and_colours_are_lines_of_plain_text() -> None:
    assert written(b"\x1b[32m10%\x1b[0m\r20%\r\n\n").tail == ("10%", "20%")


def test_what_is_not_text_does_no_harm() -> None:
    assert written(b"\xff\xfe\n").tail == ("\ufffd\ufffd",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("starting\nboom", "boom"),
        ("ValueError: no cache blocks\n  at exit\nbye", "ValueError: no cache blocks"),
        ("torch.OutOfMemoryError: CUDA\nbye", "torch.OutOfMemoryError: CUDA"),
        ("x: error: unrecognized arguments: --foo\nbye", "x: error: unrecognized arguments: --foo"),
        (
            "(EngineCore pid=7) ValueError: no cache blocks\n"
            "RuntimeError: Engine core initialization failed. See root cause above.",
            "(EngineCore pid=7) ValueError: no cache blocks",
        ),
        (
            "ERROR 11-23 [core.py:12] torch.OutOfMemoryError: CUDA\nbye",
            "ERROR 11-23 [core.py:12] torch.OutOfMemoryError: CUDA",
        ),
        ("no errors: 0\nbye", "bye"),
        ("This can cause errors like `OSError: [Errno 24] Too many`\nbye", "bye"),
        ("KeyError: 'x'\n" + "served\n" * 200, "served"),
        ("e" * 1000, "e" * 300),
    ],
)
def test_the_last_words_say_why(text: str, words: str) -> None:
    assert written(text.encode()).last_words == words


def test_lines_are_logged_at_debug_with_their_model(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "inhouse.engine"):
        written(b"100% %s\n")
    records = [record for record in caplog.records if record.name == "inhouse.engine"]
    assert [record.getMessage() for record in records] == ["100% %s"]
    assert records[0].levelno == logging.DEBUG
    assert records[0].__dict__["model"] == "small"


def test_closing_leaves_no_descriptor_open() -> None:
    before = descriptors()
    output = written(b"bye\n")
    output.close()
    assert descriptors() == before


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}
