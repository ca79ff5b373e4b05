"""Prompts with the shared beginnings of a public trace, rebuilt from its block ids.

The format is that of Mooncake (`FAST25-release/traces/*.jsonl`): a request a line, in which
`hash_ids` names each 512 tokens of its prompt; equal ids are equal text after an equal beginning.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import orjson

WORDS: Final = (
    "river", "stone", "cloud", "green", "paper", "light", "seven", "under",
    "night", "water", "house", "field", "small", "bread", "voice", "table",
)  # fmt: skip
"""Each a token of its own to the tokenizers of SmolLM2 and of most others."""


class NoTrace(Exception):
    """There is no trace to read, or not one of this format; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Which of a trace's requests are taken, and how small they are made.

    One conversation in `one_in` is taken, whole, but for its requests of more than `blocks_max`
    blocks.
    """

    one_in: int
    blocks_max: int
    tokens_a_block: int


def read(file: Path) -> list[tuple[int, ...]]:
    """The block ids of each request, in their order. Raises NoTrace."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise NoTrace(
            f"no trace at {file} ({error.strerror}): the conversation trace of Mooncake "
            "(github.com/kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl) is "
            "needed; give its path with --trace"
        ) from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(tuple(int(one) for one in orjson.loads(line)["hash_ids"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise NoTrace(f"{file}:{number}: not a request with hash_ids") from None
    return rows


def sampled(rows: Iterable[tuple[int, ...]], sample: Sample) -> list[tuple[int, ...]]:
    """The requests of the sample's conversations."""
    return [
        ids
        for ids in rows
        if len(ids) <= sample.blocks_max and _number(conversation(ids)) % sample.one_in == 0
    ]


def conversation(ids: tuple[int, ...]) -> tuple[int, ...]:
    """What tells a request's conversation: its second block, for all begin with the same one."""
    return ids[:2]


def prompt(ids: Iterable[int], tokens_a_block: int) -> str:
    """The same text for the same ids, always."""
    return " ".join(_block(one, tokens_a_block) for one in ids)


def _block(block: int, tokens: int) -> str:
    return " ".join(random.Random(block).choices(WORDS, k=tokens))


def _number(ids: tuple[int, ...]) -> int:
    return int.from_bytes(blake2b(repr(ids).encode(), digest_size=8).digest(), "big")
