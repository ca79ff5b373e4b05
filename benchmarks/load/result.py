"""What a run leaves behind, whichever driver made it: one row a request, and what they come to.

Times are seconds after the start of the run, by the monotonic clock; `started_at` alone is of the
wall clock. A time that is infinite means that the request failed; null, that it is not known.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from benchmarks.load.workload import Strict
from serve.core.errors import SettingsError

SCHEMA: Final = "inhouse.load/1"

Outcome = Literal[
    "ok",
    "unreachable",  # no connection
    "timeout",
    "quota",  # 429
    "refused",  # 4xx
    "server_error",  # 5xx
    "wrong_answer",  # 200, but not what was asked for, such as a page of HTML
    "cut",  # closed before its end
    "error",  # an error within the stream
    "empty",  # ended without a token
    "unsent",  # the run ended before, or the client had no connection left
]


class Row(Strict):
    """One request and what came of it."""

    id: int
    session: str | None = None
    outcome: Outcome
    status: int = 0
    detail: str = ""
    intended_s: float
    sent_s: float | None = None
    first_chunk_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    end_s: float | None = None
    token_chunks: int = 0
    gaps_s: tuple[float, ...] = ()
    """Between chunks with tokens, as they were read: not inter-token latency."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    doubt: str | None = None
    """Why the counts of tokens that the server gave are not believed."""
    model: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)


class Distribution(Strict):
    """Percentiles in seconds: with failures as infinitely slow, and raw, over answers alone.

    None where the sample is too small for the percentile, or where `unknown` of its answers did not
    say how many tokens they have.
    """

    count: int
    failures: int
    unknown: int = 0
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    raw_p50: float | None
    raw_p95: float | None
    raw_p99: float | None


class Objective(Strict):
    """Service level: both at most; in seconds."""

    name: str
    ttft_s: Annotated[float, Field(gt=0)]
    tpot_s: Annotated[float, Field(gt=0)]


class Goodput(Strict):
    """Requests that met every objective."""

    objective: Objective
    met: int
    per_s: float
    attainment: float
    """Of all that were sent: failures fail."""


class Summary(Strict):
    """What the rows come to."""

    sent: int
    outcomes: dict[str, int]
    offered_per_s: float
    window_s: float
    ttft: Distribution
    tpot: Distribution
    e2e: Distribution
    dispatch_delay: Distribution
    output_tokens_per_s: float | None
    cached_ratio: float | None
    doubted: int
    goodput: Goodput | None


class Client(Strict):
    """How the client did: it is the first suspect."""

    lag_p99_s: float
    lag_max_s: float
    cpu_share: float
    """Of one core."""
    chunks_per_s_peak: float
    ceiling_chunks_per_s: float | None
    """What `selfcheck` found here; None where it was not run."""
    connections: int


class Result(Strict):
    """One run."""

    format: Annotated[Literal["inhouse.load/1"], Field(alias="schema")] = SCHEMA
    driver: Literal["open-loop", "locust"]
    started_at: str
    workload: str
    workload_sha256: str
    salt: str
    url: str
    model: str
    models_answered: tuple[str, ...]
    valid: bool
    marks: tuple[str, ...]
    """Why the run is not valid, or what else must be known to read it."""
    verdict: str
    summary: Summary
    client: Client
    rtt_s: tuple[float, ...] = ()
    """What TCP connects took, before and after the run."""
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: dict[str, Any]
    rows: tuple[Row, ...]


def save(file: Path, result: Strict) -> None:
    """Write it whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(result.model_dump_json(by_alias=True, indent=1).encode() + b"\n")
    part.replace(file)


def load(file: Path) -> Result:
    """Raises SettingsError that names the file, the field and what is wrong with it."""
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SettingsError(
            f"{file}: {where}: {first['msg']}; give a file that `inhouse bench run` wrote"
        ) from None
