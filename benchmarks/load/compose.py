"""Workloads made up: from an arrival process with prompts of one size, or from a public trace.

Texts are words that are one token each to most tokenizers; the same arguments give the same file.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from benchmarks.load import arrivals as process
from benchmarks.load.trace import BLOCK_TOKENS, WORDS, Arrival, NoTrace, arrivals, prompt
from benchmarks.load.workload import Api, Message, Planned, Workload, workload


@dataclass(frozen=True, slots=True)
class Drawn:
    """A workload without a trace: sizes in tokens."""

    arrivals: process.Process
    rate_per_s: float
    requests: int
    prompt_tokens: int
    answer_tokens: int
    variation: float = 1.0
    shared_tokens: int = 0
    """How many tokens all prompts begin with alike, as with one system prompt."""
    api: Api = "chat"


@dataclass(frozen=True, slots=True)
class Replayed:
    """Which part of a trace is taken, how fast, and how small it is made."""

    file: Path
    requests: int
    rate_scale: float = 1.0
    """2 offers the trace's requests in half its time."""
    tokens_a_block: int = BLOCK_TOKENS
    """Tokens that stand for each 512 of the trace, in prompts and in answers alike."""
    prompt_tokens_max: int | None = None
    """Requests with longer prompts, after scaling, are left out."""
    api: Api = "chat"


def drawn(name: str, what: Drawn, seed: int, fields: dict[str, Any] | None = None) -> Workload:
    """Requests that come by a process. Raises SettingsError on what cannot be."""
    rng = random.Random(seed)
    offsets = process.offsets_s(what.arrivals, what.requests, what.rate_per_s, rng, what.variation)
    shared = " ".join(random.Random(seed + 1).choices(WORDS, k=what.shared_tokens))
    own_tokens = max(1, what.prompt_tokens - what.shared_tokens)
    requests = [
        _planned(
            number, offset_s, what.api, what.answer_tokens,
            " ".join([*([shared] if shared else []), *rng.choices(WORDS, k=own_tokens)]),
        )
        for number, offset_s in enumerate(offsets)
    ]  # fmt: skip
    origin = {name: getattr(what, name) for name in what.__slots__} | {"seed": seed}
    return workload(name, salt_of(name, seed), requests, origin=origin, fields=fields)


def replayed(
    name: str, what: Replayed, seed: int, fields: dict[str, Any] | None = None
) -> Workload:
    """The requests of a trace, with the beginnings that they share. Raises NoTrace."""
    if what.rate_scale <= 0 or not 1 <= what.tokens_a_block <= BLOCK_TOKENS:
        raise NoTrace(
            f"--rate-scale {what.rate_scale:g} must be above 0, and --tokens-a-block "
            f"{what.tokens_a_block} of 1 to {BLOCK_TOKENS}"
        )
    scale = what.tokens_a_block / BLOCK_TOKENS
    most = what.prompt_tokens_max
    taken = [
        one for one in arrivals(what.file) if most is None or one.input_tokens * scale <= most
    ][: what.requests]
    if not taken:
        raise NoTrace(f"{what.file}: no request of at most {most} tokens")
    first_s = taken[0].offset_s
    requests = [
        _planned(
            number, (one.offset_s - first_s) / what.rate_scale, what.api,
            max(1, round(one.output_tokens * scale)), _text(one, number, what.tokens_a_block, seed),
            _session(one, number),
        )
        for number, one in enumerate(taken)
    ]  # fmt: skip
    origin = {
        "trace": what.file.name, "requests": len(taken), "rate_scale": what.rate_scale,
        "tokens_a_block": what.tokens_a_block, "prompt_tokens_max": most, "seed": seed,
    }  # fmt: skip
    return workload(name, salt_of(name, seed), requests, origin=origin, fields=fields)


def salt_of(name: str, seed: int) -> str:
    """A workload's own salt; a run may take another."""
    return blake2b(f"{name}/{seed}".encode(), digest_size=6).hexdigest()


def _planned(
    number: int, offset_s: float, api: Api, answer_tokens: int, text: str,
    session: str | None = None,
) -> Planned:  # fmt: skip
    offset_s = round(offset_s, 6)
    if api == "embeddings":
        return Planned(id=number, offset_s=offset_s, api=api, texts=(text,), session=session)
    return Planned(
        id=number, offset_s=offset_s, api=api, session=session, max_tokens=answer_tokens,
        messages=(Message(role="user", content=text),),
    )  # fmt: skip


def _text(one: Arrival, number: int, tokens_a_block: int, seed: int) -> str:
    """Blocks as the trace names them, its last one cut where the prompt ends; without blocks, words
    of its own."""
    tokens = max(1, round(one.input_tokens * tokens_a_block / BLOCK_TOKENS))
    if one.blocks:
        return " ".join(prompt(one.blocks, tokens_a_block).split(" ")[:tokens])
    return " ".join(random.Random(f"{seed}/{number}").choices(WORDS, k=tokens))


def _session(one: Arrival, number: int) -> str | None:
    """Requests that share their second block belong together: all begin with the first one."""
    return f"b{one.blocks[1]}" if len(one.blocks) > 1 else None


def token_counts(requests: Sequence[Planned]) -> tuple[int, int]:
    """Words of all prompts, and the most tokens of all answers."""
    words = sum(
        len(text.split()) for one in requests
        for text in (*one.texts, *(message.content for message in one.messages))
    )  # fmt: skip
    return words, sum(one.max_tokens or 0 for one in requests)
