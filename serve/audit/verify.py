"""Holds a log against itself and against its checkpoints, and says all that is wrong with it.

Found are bytes that were changed, records that were removed, added or moved, segments that are
missing, and a log that is shorter, or another one, than a checkpoint says. What was removed behind
the newest checkpoint leaves no trace, so how far that one reaches is always told.
"""

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serve.audit.chain import GENESIS, Broken, Record, record_of
from serve.audit.checkpoint import NOTE_MAX_BYTES, Checkpoint, NotSigned, checkpoint_of, opened
from serve.audit.files import CHECKPOINTS, NOTE_SUFFIX, Lines, Stored, segments_in
from serve.audit.key import PublicKey, public_key
from serve.core.errors import SettingsError, SetupError

FINDINGS_MAX: Final = 20


@dataclass(slots=True)
class Verdict:
    """What was found. `first` and `size` are the first record there and the number after the last,
    `covered` how many records the newest checkpoint holds on to."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    first: int = 0
    size: int = 0
    covered: int = 0
    checkpoints: int = 0
    name: str = ""

    @property
    def good(self) -> bool:
        return not self.findings

    def find(self, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)
        elif len(self.findings) == FINDINGS_MAX:
            self.findings.append("and more of the kind")


def verify(folder: Path, others: Sequence[Path] = (), keys: Sequence[PublicKey] = ()) -> Verdict:
    """Read all of a log; `others` are folders of exported checkpoints besides its own.

    Without `keys` those that the log names itself count. Raises SetupError where a folder cannot
    be read.
    """
    verdict = Verdict()
    try:
        segments = segments_in(folder)
        trusted = list(keys) or _own_keys(folder, segments)
        notes = _signed(folder, others, trusted, verdict)
        _read(segments, notes, verdict)
    except OSError as error:
        raise SetupError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not keys:
        verdict.notes.append(
            "the key that signs was taken from this log itself; `--public-key` with a copy that "
            "was kept elsewhere is proof"
        )
    return verdict


def _own_keys(folder: Path, segments: Sequence[Stored]) -> list[PublicKey]:
    """The keys that the segments name, and the one beside them."""
    texts = set()
    for segment in segments:
        for line in Lines(segment.path):
            with contextlib.suppress(Broken):  # told of when it is read in its place
                texts.add(str(record_of(line, None).fields.get("public_key", "")))
            break
    key_file = folder / "key.pub"
    if key_file.exists():
        texts.add(key_file.read_text(errors="replace"))
    keys = []
    for text in sorted(texts):
        try:
            keys.append(public_key(text))
        except SettingsError:
            continue
    return keys


def _signed(
    folder: Path, others: Sequence[Path], keys: Sequence[PublicKey], verdict: Verdict
) -> dict[int, bytes]:
    """The chain after so many records, by all checkpoints that count."""
    names = {key.name for key in keys}
    heads: dict[int, bytes] = {}
    for path in _notes(folder, others):
        try:
            checkpoint = _checkpoint(path, keys, names)
        except NotSigned as error:
            verdict.find(f"{path}: {error}")
            continue
        if checkpoint is None:
            verdict.notes.append(f"{path}: is of another log, and was passed over")
            continue
        verdict.checkpoints += 1
        if heads.setdefault(checkpoint.size, checkpoint.head) != checkpoint.head:
            verdict.find(
                f"{path}: two signed checkpoints after {checkpoint.size} records contradict "
                "each other: there have been two logs of this name"
            )
    return heads


def _notes(folder: Path, others: Sequence[Path]) -> Iterator[Path]:
    for place in (folder / CHECKPOINTS, *others):
        if place in others and not place.is_dir():
            raise SetupError(f"{place}: is no folder")
        yield from sorted(one for one in place.glob(f"*{NOTE_SUFFIX}") if one.name[0] != ".")


def _checkpoint(path: Path, keys: Sequence[PublicKey], names: set[str]) -> Checkpoint | None:
    """One that a key has signed; None for another log's. Raises NotSigned."""
    with path.open("rb") as file:
        note = file.read(NOTE_MAX_BYTES + 1)
    if len(note) > NOTE_MAX_BYTES:
        raise NotSigned("is no checkpoint")
    said, _ = checkpoint_of(note)
    if said.name not in names and names and not path.name.startswith(tuple(names)):
        return None
    return opened(note, keys)


def _read(segments: Sequence[Stored], heads: dict[int, bytes], verdict: Verdict) -> None:
    if not segments:
        verdict.find("there is no segment" if heads else "there is no log")
        return
    reader = _Reader(heads, verdict)
    reader.begin(segments[0])
    for place, segment in enumerate(segments):
        reader.segment(segment, last=place == len(segments) - 1)
    verdict.first, verdict.size = segments[0].first, reader.seq
    verdict.name = reader.name
    reader.end()


class _Reader:
    """Goes through the records in their order."""

    def __init__(self, heads: dict[int, bytes], verdict: Verdict) -> None:
        self.seq = 0
        self.name = ""
        self._heads = heads
        self._verdict = verdict
        self._head: bytes | None = GENESIS
        self._trimmed = 0
        self._first = 0

    def begin(self, segment: Stored) -> None:
        """Where the first segment there goes on from."""
        self.seq = self._first = segment.first
        if not segment.first:
            return
        self._head = self._heads.get(segment.first)
        if self._head is None:
            self._verdict.find(
                f"{segment.path.name}: the records before it are not there, and no checkpoint "
                "holds on to their end"
            )

    def segment(self, segment: Stored, *, last: bool) -> None:
        where = segment.path.name
        if segment.first != self.seq:
            self._verdict.find(f"{where}: record {self.seq} should come first in the next segment")
            self.seq, self._head = segment.first, None
        lines = Lines(segment.path)
        number = 0
        for number, line in enumerate(lines, start=1):
            self._line(f"{where}, line {number}", line, opening=number == 1)
        self._rest(segment, lines, last=last, empty=number == 0)

    def _line(self, where: str, line: bytes, *, opening: bool) -> None:
        try:
            record = record_of(line, self._head)
        except Broken as broken:
            self._verdict.find(f"{where}: {broken}")
            self.seq, self._head = self.seq + 1, broken.said
            return
        if record.seq != self.seq:
            self._verdict.find(f"{where}: is record {record.seq}, where {self.seq} should be")
            self.seq = max(record.seq, self.seq)
        self._told(where, record, opening=opening)
        self.seq, self._head = self.seq + 1, record.head
        head = self._heads.get(self.seq)
        if head is not None and head != record.head:
            self._verdict.find(f"{where}: is not the record that a checkpoint was signed after")

    def _told(self, where: str, record: Record, *, opening: bool) -> None:
        """What the log says of itself."""
        if opening != (record.kind == "log.segment"):
            self._verdict.find(f"{where}: a segment begins elsewhere, or without its own record")
        elif opening:
            name = str(record.fields.get("log"))
            if self.name not in ("", name):
                self._verdict.find(f"{where}: is of another log, {name}")
            self.name = name
        elif record.kind == "log.trimmed":
            first = record.fields.get("first")
            self._trimmed = first if type(first) is int else 0
        elif record.kind in ("log.repaired", "log.lost"):
            said = {k: v for k, v in record.fields.items() if k not in ("seq", "time", "chain")}
            self._verdict.notes.append(f"{where}: the server itself says {said}")

    def _rest(self, segment: Stored, lines: Lines, *, last: bool, empty: bool) -> None:
        where, rest = segment.path.name, len(lines.rest)
        if lines.torn:
            self._verdict.find(
                f"{where}: zeros lie in the middle of its last {rest} bytes; a power cut can do "
                "that, and so can somebody who wants to remove records"
            )
        elif rest and last:
            self._verdict.notes.append(
                f"{where}: ends in an unfinished record of {rest} bytes, as a server that is "
                "writing or was killed leaves it; the next start cuts it off and says so"
            )
        elif rest:
            self._verdict.find(f"{where}: ends in the middle of a record")
        elif not last and segment.path.stat().st_size != lines.whole_bytes:
            self._verdict.find(f"{where}: has more after its last record")
        elif empty and not last:
            self._verdict.find(f"{where}: is empty")

    def end(self) -> None:
        verdict = self._verdict
        if self._first > 0 and self._trimmed < self._first:
            verdict.find(
                f"records before {self._first} are not there, and no record says that they were "
                "removed for their age"
            )
        longest = max(self._heads, default=0)
        if longest > self.seq:
            verdict.find(
                f"a checkpoint was signed after {longest} records, and there are {self.seq}: the "
                "rest was cut off"
            )
        verdict.covered = min(longest, self.seq)


def lines_of(verdict: Verdict) -> list[str]:
    """The verdict for a person."""
    count, behind = verdict.size - verdict.first, verdict.size - verdict.covered
    told = [f"log {verdict.name}: records {verdict.first} to {verdict.size - 1}, {count} in all"]
    told += [f"FOUND {one}" for one in verdict.findings]
    told += [f"note: {one}" for one in verdict.notes]
    if not verdict.checkpoints:
        told.append("no checkpoint: records removed from its end could not be noticed")
    else:
        told.append(
            f"{verdict.checkpoints} checkpoints, the newest after {verdict.covered} records; if "
            f"some of the {behind} behind it had been removed, that could not be noticed"
        )
    told.append("the log is whole" if verdict.good else "the log is NOT what was written")
    return told


def day(time_s: float) -> str:
    """A record's time, in UTC."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
