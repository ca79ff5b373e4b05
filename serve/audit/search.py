"""Finds records of a log: what `inhouse audit show` shows."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve.audit.chain import JSON, Broken, record_of
from serve.audit.checkpoints import began_s
from serve.audit.files import Lines, segments_in
from serve.core.errors import SetupError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; what is None counts for all. Times are Unix seconds.

    `kind` also means what is below it: `key` is `key.added` too. `last` is how many at most, the
    newest of them.
    """

    kind: str | None = None
    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    request_id: str | None = None
    since_s: float | None = None
    until_s: float | None = None
    last: int | None = None

    def meets(self, fields: JSON) -> bool:
        """Whether a record is one of those."""
        kind = str(fields.get("kind"))
        if self.kind is not None and kind != self.kind and not kind.startswith(f"{self.kind}."):
            return False
        for name in ("tenant", "key", "model", "request_id"):
            wanted = getattr(self, name)
            if wanted is not None and fields.get(name) != wanted:
                return False
        time_s = fields.get("time")
        at_s = float(time_s) if isinstance(time_s, int | float) else 0.0
        return (self.since_s is None or at_s >= self.since_s) and (
            self.until_s is None or at_s < self.until_s
        )


def search(folder: Path, wanted: Wanted) -> Iterator[JSON]:
    """The records, in their order, without their chain; lines that are none are passed over
    (`verify` finds those). Raises SetupError where there is no log, or it cannot be read."""
    try:
        found = _all(folder, wanted)
        yield from found if wanted.last is None else deque(found, maxlen=wanted.last)
    except OSError as error:
        raise SetupError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _all(folder: Path, wanted: Wanted) -> Iterator[JSON]:
    segments = segments_in(folder)
    if not segments:
        raise SetupError(f"{folder}: there is no audit log")
    needle = None if wanted.request_id is None else wanted.request_id.encode()
    for place, segment in enumerate(segments):
        if wanted.since_s is not None and place + 1 < len(segments):
            after_s = began_s(segments[place + 1])
            if after_s is not None and after_s < wanted.since_s:
                continue
        for line in Lines(segment.path):
            # Most lines need not be read to see that they are not meant.
            if needle is not None and needle not in line:
                continue
            try:
                fields = record_of(line, None).fields
            except Broken:
                continue
            if wanted.meets(fields):
                fields.pop("chain")
                yield fields
