"""What an earlier process left of the log: where it ends, and whether its end is whole.

A killed process leaves at most an unfinished line, a power cut perhaps a hole in what was not on
the disk yet. That is cut off, and the log says so itself. Anything else is not repaired.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serve.audit.chain import GENESIS, JSON, Broken, Record, record_of
from serve.audit.checkpoint import NotSigned, checkpoint_of, opened
from serve.audit.files import Lines, Stored, notes_in, segments_in
from serve.audit.key import PublicKey
from serve.core.errors import SetupError


@dataclass(slots=True)
class End:
    """Where the log goes on: `seq` records, the last with the chain `head`.

    `name` is the log's, empty for one that begins; `cut` what was cut off, where something was;
    `requests` whose receipts are in the last segment.
    """

    seq: int = 0
    head: bytes = GENESIS
    name: str = ""
    cut: JSON | None = None
    requests: set[str] = field(default_factory=set)


def find_end(folder: Path) -> End:
    """Read the last segment and cut off what is unfinished. Raises OSError, and SetupError where
    the log is not as a server leaves it."""
    segments = segments_in(folder)
    end = End()
    while segments:
        last = segments.pop()
        before = _head_before(folder, last, segments)
        end.seq, end.head = last.first, before
        lines = Lines(last.path)
        for record in _followed(last, lines, before):
            _take(end, record)
        end.cut = _cut(last, lines) or end.cut
        if end.seq > last.first:
            break
        # It was begun and nothing came of it.
        last.path.unlink()
    return end


def _followed(segment: Stored, lines: Lines, before: bytes) -> Iterator[Record]:
    head = before
    for number, line in enumerate(lines, start=1):
        try:
            record = record_of(line, head)
        except Broken as broken:
            raise _not_whole(f"{segment.path}: line {number} {broken}") from None
        head = record.head
        yield record


def _take(end: End, record: Record) -> None:
    if record.seq != end.seq:
        raise _not_whole(f"record {end.seq} is missing")
    end.seq, end.head = record.seq + 1, record.head
    if record.kind == "log.segment":
        end.name = str(record.fields.get("log"))
    elif record.kind == "request":
        end.requests.add(str(record.fields.get("request_id")))


def _cut(segment: Stored, lines: Lines) -> JSON | None:
    size = segment.path.stat().st_size
    if size > lines.whole_bytes:
        with segment.path.open("rb+") as file:
            file.truncate(lines.whole_bytes)
    if not lines.rest:
        return None
    return {
        "segment": segment.path.name,
        "cut_bytes": len(lines.rest),
        "cut_sha256": hashlib.sha256(lines.rest).hexdigest(),
    }


def _head_before(folder: Path, segment: Stored, earlier: list[Stored]) -> bytes:
    """The chain of the last record before a segment."""
    if segment.first == 0:
        return GENESIS
    if earlier:
        *_, line = (b"", *Lines(earlier[-1].path))
        try:
            return record_of(line, None).head
        except Broken as broken:
            raise _not_whole(f"{earlier[-1].path}: its last line {broken}") from None
    for path, size in notes_in(folder):
        if size == segment.first:
            try:
                return checkpoint_of(path.read_bytes())[0].head
            except NotSigned as error:
                raise _not_whole(f"{path}: {error}") from None
    raise _not_whole(f"the records before {segment.path.name} are missing")


def refuse_short(folder: Path, end: End, key: PublicKey) -> None:
    """Raise SetupError where a checkpoint says that the log was longer."""
    for path, size in notes_in(folder):
        if size <= end.seq:
            continue
        try:
            opened(path.read_bytes(), [key])
        except NotSigned:
            continue
        raise _not_whole(f"it has {end.seq} records, and {path} is a checkpoint after {size}")


def _not_whole(what: str) -> SetupError:
    return SetupError(
        f"the audit log is not as a server leaves it: {what}. `inhouse audit verify` says what is "
        "wrong with it. Move its folder away, which is evidence, and start again: a new log begins."
    )
