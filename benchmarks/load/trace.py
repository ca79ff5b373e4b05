"""Public traces: when requests came, how long they were, and which beginnings they shared.

Mooncake's (`FAST25-release/traces/*.jsonl`): a request a line, `timestamp` in ms, in which
`hash_ids` names each 512 tokens of its prompt; equal ids are equal text after an equal beginning.
Azure's (`AzureLLMInferenceTrace_*.csv`): a request a row, with a wall clock time and two counts.
"""

import csv
import datetime
import random
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import orjson

from serve.core.errors import SettingsError

BLOCK_TOKENS: Final = 512
"""Tokens of a prompt that one of Mooncake's ids stands for."""
AZURE_COLUMNS: Final = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
WORDS: Final = (
    "river", "stone", "cloud", "green", "paper", "light", "seven", "under",
    "night", "water", "house", "field", "small", "bread", "voice", "table",
)  # fmt: skip
"""Each a token of its own to the tokenizers of SmolLM2 and of most others."""


class NoTrace(SettingsError):
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


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace: seconds after the first, and its tokens."""

    offset_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Mooncake's `hash_ids`; none in a trace that does not say what prompts share."""


def arrivals(file: Path) -> list[Arrival]:
    """The requests of a trace of either format, by the file's ending. Raises NoTrace."""
    found = _azure(file) if file.suffix == ".csv" else _mooncake(file)
    if not found:
        raise NoTrace(f"{file}: holds no request")
    first_s = min(one.offset_s for one in found)
    return [
        Arrival(one.offset_s - first_s, one.input_tokens, one.output_tokens, one.blocks)
        for one in found
    ]


def _mooncake(file: Path) -> list[Arrival]:
    found = []
    for number, line in enumerate(_lines(file), 1):
        try:
            row = orjson.loads(line)
            found.append(
                Arrival(
                    float(row["timestamp"]) / 1000, int(row["input_length"]),
                    int(row["output_length"]), tuple(int(one) for one in row["hash_ids"]),
                )
            )  # fmt: skip
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise NoTrace(
                f"{file}:{number}: not a request with timestamp, input_length, output_length and "
                "hash_ids"
            ) from None
    return found


def _azure(file: Path) -> list[Arrival]:
    rows = csv.reader(line.decode(errors="replace") for line in _lines(file))
    if next(rows, None) != AZURE_COLUMNS:
        raise NoTrace(f"{file}:1: not the columns {', '.join(AZURE_COLUMNS)}")
    found = []
    for number, row in enumerate(rows, 2):
        try:
            at, prompt_tokens, answer_tokens = row
            # seven digits after the point: more than datetime reads
            moment = datetime.datetime.fromisoformat(at[:26]).replace(tzinfo=datetime.UTC)
            found.append(Arrival(moment.timestamp(), int(prompt_tokens), int(answer_tokens)))
        except ValueError:
            raise NoTrace(f"{file}:{number}: not a time and two counts of tokens") from None
    return found


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise NoTrace(
            f"no trace at {file} ({error.strerror}): the conversation trace of Mooncake "
            "(github.com/kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl) is "
            "needed, or one of its format or Azure's; give its path with --trace"
        ) from None


def read(file: Path) -> list[tuple[int, ...]]:
    """The block ids of each request, in their order. Raises NoTrace."""
    rows = []
    for number, line in enumerate(_lines(file), 1):
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
