"""Which of several equal engines a request goes to, so that it finds its prompt cached. Pure.

An engine keeps what it has computed of a prompt, block by block, and computes only what follows
the longest beginning that it has. A conversation repeats all of itself at each turn, so it ought
to return to where it was. The rules, in this order:

1. No engine is given more than its share of what runs, times `LOAD_FACTOR` (bounded loads).
2. Where at least `WORTH` of the prompt is remembered to have gone to some engine, one of those.
3. Otherwise, and among equals, the highest draw of the conversation's start (rendezvous hashing):
   new conversations spread evenly, every gateway draws alike, and an engine that comes or goes
   moves only the conversations that it gains or loses.

Conversations that share a system prompt are therefore spread as long as that is the smaller part
of them; where it is the larger part they follow it, until its engine has its share of the load and
the next one learns it too.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

LOAD_FACTOR: Final = 1.25
"""An engine's bound, as a multiple of the mean (Mirrokni et al., arXiv 1608.01350)."""

WORTH: Final = 0.5
"""Share of a prompt that must be remembered to decide where it goes."""

PIECE_BYTES: Final = 512
"""Of a prompt's text, about 128 tokens: a few blocks of an engine's cache."""

PIECE_SHARE: Final = 16
"""Later pieces are this fraction of what comes before them, where that is more."""

TRAIL_MAX_BYTES: Final = 512 * 1024
"""Beginning of a prompt that is looked at."""

REMEMBERED_PIECES_MAX: Final = 65_536
"""About 10 MB of memory, and some 10 million tokens of prompts where none shares a piece."""

MEMBERS_MAX: Final = 64

_MASK: Final = 2**64 - 1


def _marks() -> Iterator[int]:
    mark = PIECE_BYTES
    while mark <= TRAIL_MAX_BYTES:
        yield mark
        mark += max(PIECE_BYTES, mark // PIECE_SHARE)


_MARKS: Final = tuple(_marks())
"""Where the pieces of a prompt end."""


@dataclass(frozen=True, slots=True)
class Trail:
    """A prompt as it is recognised again.

    `start` names its conversation: everything up to the first message of the user. `pieces` are
    digests of ever longer beginnings of the prompt, the shortest first; a longer prompt that
    begins in the same way has them all.
    """

    start: int
    pieces: tuple[bytes, ...]


def trail_of(body: Mapping[str, Any]) -> Trail:
    """The trail of a request as an engine is sent it."""
    head, rest = _text(body)
    start = int.from_bytes(blake2b(head[:TRAIL_MAX_BYTES], digest_size=8).digest(), "big")
    text = head + rest
    running = blake2b(digest_size=8)
    pieces = []
    done = 0
    for mark in _MARKS:
        if mark > len(text):
            break
        running.update(text[done:mark])
        pieces.append(running.digest())
        done = mark
    return Trail(start, tuple(pieces))


def _text(body: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """What comes before the cache: the conversation's start, and the rest.

    In the order in which it decides: the model, the salt that keeps caches apart, the tools (most
    templates put them first), then the messages.
    """
    before = (body.get("model"), body.get("cache_salt"), body.get("tools"))
    messages = body.get("messages")
    if messages is None:
        return orjson.dumps((*before, body.get("prompt", body.get("input"))))[:-2], b""
    asked = (at for at, message in enumerate(messages, 1) if message["role"] == "user")
    at = next(asked, len(messages))
    head = orjson.dumps((*before, messages[:at]))[:-2]
    later = messages[at:]
    return head, b"," + orjson.dumps(later)[1:-1] if later else b""


class Affinity:
    """Chooses among members, which are known by their place in `names`.

    Remembers which of them were given which prompts, the latest `remembered_pieces_max` pieces.
    """

    def __init__(
        self, names: Sequence[str], remembered_pieces_max: int = REMEMBERED_PIECES_MAX
    ) -> None:
        if not 1 <= len(names) <= MEMBERS_MAX or len(set(names)) != len(names):
            raise ValueError(f"1 to {MEMBERS_MAX} members of different names")
        self._seeds = tuple(
            int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") for name in names
        )
        self._remembered_pieces_max = remembered_pieces_max
        # Piece → a bit for each member that has had it; the order is that of the latest use.
        self._holders: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def choose(self, trail: Trail, loads: Mapping[int, int]) -> int:
        """One of the members in `loads`, which says how many requests each has in hand."""
        bound = load_bound(sum(loads.values()) + 1, len(loads))
        free = [member for member, load in loads.items() if load < bound]
        return max(self._holding(trail, free) or free, key=lambda one: self._draw(trail, one))

    def remember(self, trail: Trail, member: int) -> None:
        """This prompt has gone there."""
        holders, bit = self._holders, 1 << member
        for piece in trail.pieces:
            holders[piece] = holders.pop(piece, 0) | bit
        for _ in range(len(holders) - self._remembered_pieces_max):
            del holders[next(iter(holders))]

    def forget(self, member: int) -> None:
        """It has lost its cache."""
        others = ~(1 << member)
        self._holders = {
            piece: left for piece, held in self._holders.items() if (left := held & others)
        }

    def _holding(self, trail: Trail, among: Sequence[int]) -> list[int]:
        """Those that have had most of the prompt, as much of it as any of them has."""
        bits = sum(1 << member for member in among)
        count = len(trail.pieces)
        for depth in range(count, 0, -1):
            if _MARKS[depth - 1] < _MARKS[count - 1] * WORTH:
                break
            held = self._holders.get(trail.pieces[depth - 1], 0) & bits
            if held:
                return [member for member in among if held >> member & 1]
        return []

    def _draw(self, trail: Trail, member: int) -> int:
        """A number that looks random and is always the same (Stafford's mix 13)."""
        draw = trail.start ^ self._seeds[member]
        draw = (draw ^ draw >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        draw = (draw ^ draw >> 27) * 0x94D049BB133111EB & _MASK
        return draw ^ draw >> 31


def load_bound(requests: int, members: int) -> int:
    """The most requests that one of `members` may have of all these."""
    return math.ceil(LOAD_FACTOR * requests / members)
