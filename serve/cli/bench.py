"""`inhouse bench`: how fast a server is, this one or any that speaks OpenAI's API."""

import datetime
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
import typer
import uvloop

from benchmarks.load import arrivals, compose, seal, selfcheck, session, workload
from benchmarks.load.compare import compare
from benchmarks.load.conduct import Conditions
from benchmarks.load.metrics import PRESETS, preset
from benchmarks.load.result import Objective, Result, load, save
from benchmarks.load.sweep import Rate, Search
from benchmarks.load.target import CapField, Target, target
from serve.cli.terminal import JsonOption, err, out, say
from serve.core.errors import SettingsError

FOLDER: Final = Path("bench")
SELFCHECK: Final = FOLDER / "selfcheck.json"
INCONCLUSIVE: Final = 4

app = typer.Typer(no_args_is_help=True, help="Measure how fast a server is.")

WorkloadArgument = Annotated[Path, typer.Argument(help="A file of `inhouse bench workload`.")]
UrlOption = Annotated[
    str, typer.Option("--url", help="Up to what comes before /chat/completions, such as …/v1.")
]
ModelOption = Annotated[str, typer.Option("--model", help="The model's name there.")]
KeyOption = Annotated[
    str | None, typer.Option("--key-env", help="The environment variable that holds the key.")
]
CapOption = Annotated[
    CapField, typer.Option("--cap-field", help="How tokens of chats are bounded there.")
]
SloOption = Annotated[str | None, typer.Option("--slo", help=f"One of {', '.join(PRESETS)}.")]
TtftOption = Annotated[float | None, typer.Option("--ttft-ms", min=0.001, help="TTFT at most.")]
TpotOption = Annotated[float | None, typer.Option("--tpot-ms", min=0.001, help="TPOT at most.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout-s", min=0.1, help="When a request is given up.")
]
SaltOption = Annotated[
    str | None,
    typer.Option("--salt", help="Put before each prompt instead of the workload's; for a repeat."),
]
SelfcheckOption = Annotated[
    Path, typer.Option("--selfcheck", help="The ceiling that `selfcheck` found here.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Where the result goes; bench/ with a date without.")
]


@app.callback()
def bench() -> None:
    """Measure how fast a server is."""


@app.command("workload")
def make(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    process: Annotated[
        arrivals.Process, typer.Option("--arrivals", help="How requests come, without a trace.")
    ] = "poisson",
    rate: Annotated[float, typer.Option("--rate", help="Requests a second.")] = 1.0,
    variation: Annotated[
        float, typer.Option("--variation", help="Of gamma's gaps: above 1 comes in bursts.")
    ] = 1.0,
    requests: Annotated[int, typer.Option("--requests", min=1, help="How many at most.")] = 100,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=1)] = 256,
    shared_tokens: Annotated[
        int, typer.Option("--shared-tokens", min=0, help="That all prompts begin with.")
    ] = 0,
    answer_tokens: Annotated[int, typer.Option("--answer-tokens", min=1)] = 64,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Replay Azure's (.csv) or Mooncake's (.jsonl).")
    ] = None,
    rate_scale: Annotated[
        float, typer.Option("--rate-scale", help="2 replays a trace in half its time.")
    ] = 1.0,
    tokens_a_block: Annotated[
        int, typer.Option("--tokens-a-block", help="That stand for each 512 of a trace.")
    ] = 512,
    prompt_tokens_max: Annotated[
        int | None, typer.Option("--prompt-tokens-max", help="Longer ones of a trace are left out.")
    ] = None,
    api: Annotated[workload.Api, typer.Option("--api")] = "chat",
    seed: Annotated[int, typer.Option("--seed")] = 1,
    fields: Annotated[
        str, typer.Option("--fields", metavar="JSON", help="Put into each request.")
    ] = "{}",
) -> None:
    """Write a workload: exactly what is sent, and when."""
    extra = _fields(fields)
    if trace is None:
        drawn = compose.Drawn(
            process, rate, requests, prompt_tokens, answer_tokens, variation, shared_tokens, api
        )
        made = compose.drawn(file.stem, drawn, seed, extra)
    else:
        replayed = compose.Replayed(
            trace, requests, rate_scale, tokens_a_block, prompt_tokens_max, api
        )
        made = compose.replayed(file.stem, replayed, seed, extra)
    workload.save(file, made)
    words, tokens = compose.token_counts(made.requests)
    say(
        f"{file}: {len(made.requests)} requests in {made.duration_s:.0f} s "
        f"({made.rate_per_s:.2f}/s), {words} words of prompts, at most {tokens} tokens of answers, "
        f"sha256 {made.heading.sha256[:12]}",
    )  # fmt: skip


@app.command("selfcheck")
def check(
    file: Annotated[Path, typer.Option("--out", help="Where the ceiling is kept.")] = SELFCHECK,
    step_s: Annotated[float, typer.Option("--step-s", min=1, help="How long each rate.")] = 3.0,
    rate_max: Annotated[
        float, typer.Option("--rate-max", min=selfcheck.FIRST_RATE, help="The highest rate tried.")
    ] = selfcheck.RATE_MAX,
) -> None:
    """Find how many streamed tokens a second this client can time rightly."""
    found = uvloop.run(selfcheck.selfcheck(step_s, rate_max, _show_step))
    save(file, found)
    at_least = "at least " if found.stub_bound else ""
    out.print(
        f"ceiling: {at_least}{found.ceiling_chunks_per_s:,.0f} streamed tokens/s; runs are "
        f"believed up to half of it ({file})",
        soft_wrap=True,
    )
    if not found.ceiling_chunks_per_s:
        sys.exit(1)


@app.command("capture", help="As `run`, and sign the result, to be compared with elsewhere.")
@app.command("run")
def run(
    context: typer.Context,
    workload_file: WorkloadArgument,
    url: UrlOption,
    model: ModelOption,
    key_env: KeyOption = None,
    cap_field: CapOption = "max_completion_tokens",
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests a second, instead of the workload's.")
    ] = None,
    slo: SloOption = None,
    ttft_ms: TtftOption = None,
    tpot_ms: TpotOption = None,
    timeout_s: TimeoutOption = 600.0,
    salt: SaltOption = None,
    selfcheck_file: SelfcheckOption = SELFCHECK,
    sign: Annotated[
        Path | None, typer.Option("--sign", help="Sign the result with this key: a capture.")
    ] = None,
    file: OutOption = None,
) -> None:
    """Send a workload, each request when it is due; exit code 1 where the run is not valid."""
    if context.info_name == "capture" and sign is None:
        raise SettingsError("a capture is signed: --sign KEY, made by `inhouse bench key KEY`")
    key = None if sign is None else seal.private_key(sign)
    there, what = _target(url, model, key_env, cap_field), workload.load(workload_file)
    conditions = _conditions(
        (slo, ttft_ms, tpot_ms), timeout_s, salt, rate, selfcheck.ceiling_of(selfcheck_file)
    )
    where = file or _dated("run")
    result = uvloop.run(session.run_to(where, there, what, conditions))
    if key is not None:
        save(where, seal.sealed(result, key))
    say(f"{result.verdict}\n{where}")
    if not result.valid:
        sys.exit(1)


@app.command("sweep")
def search(
    workload_file: WorkloadArgument,
    url: UrlOption,
    model: ModelOption,
    low: Annotated[float, typer.Option("--from", min=0.001, help="The first rate tried.")],
    high: Annotated[float, typer.Option("--to", min=0.001, help="The highest.")],
    key_env: KeyOption = None,
    cap_field: CapOption = "max_completion_tokens",
    slo: SloOption = None,
    ttft_ms: TtftOption = None,
    tpot_ms: TpotOption = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=20)] = 3,
    precision: Annotated[
        float, typer.Option("--precision", min=0.001, max=1, help="How near, as a share.")
    ] = 0.1,
    timeout_s: TimeoutOption = 600.0,
    salt: SaltOption = None,
    selfcheck_file: SelfcheckOption = SELFCHECK,
    file: OutOption = None,
) -> None:
    """Find the highest rate at which 99 % of all requests sent keep the service level."""
    if high < low:
        raise SettingsError(f"--to {high:g} is below --from {low:g}")
    there, what = _target(url, model, key_env, cap_field), workload.load(workload_file)
    conditions = _conditions(
        (slo, ttft_ms, tpot_ms), timeout_s, salt, None, selfcheck.ceiling_of(selfcheck_file)
    )
    where = file or _dated("sweep")
    asked = Search(low, high, precision, repeats)
    found = uvloop.run(session.sweep_to(where, there, what, conditions, asked, _show_rate))
    held, failed = found.highest_held_per_s, found.lowest_failed_per_s
    say(
        f"{found.ending}: held {_rate(held)}, did not hold {_rate(failed)}\n{where}",
    )  # fmt: skip
    if found.ending not in ("found", "held at the highest rate"):
        sys.exit(1)


@app.command("key")
def make_key(file: Annotated[Path, typer.Argument(help="The private key's file.")]) -> None:
    """Make a key to sign captures with; the .pub beside it is for those who read them."""
    public = seal.make_key(file)
    out.print(f"{file}\n{public} {seal.key_id(seal.public_key(public))}", soft_wrap=True)


@app.command("compare")
def hold(
    first: Annotated[Path, typer.Argument(help="The run before, or of the one server.")],
    second: Annotated[Path, typer.Argument(help="The run after, or of the other.")],
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="How much slower is let pass, as a share.")
    ] = 0.05,
    pinned: Annotated[
        Path | None, typer.Option("--pinned", help="The public key that captures must be of.")
    ] = None,
    age_max_days: Annotated[
        float, typer.Option("--age-max-days", min=0, help="Older captures are refused.")
    ] = 90.0,
    as_json: JsonOption = False,
) -> None:
    """Hold two runs of one workload against each other: pass (exit code 0), fail (1) or
    inconclusive (4)."""
    found = compare(
        _result(first, pinned, age_max_days), _result(second, pinned, age_max_days), tolerance
    )
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        say(*(*(one.words for one in found.findings), *found.remarks, found.judgement))
    sys.exit({"pass": 0, "fail": 1, "inconclusive": INCONCLUSIVE}[found.judgement])


def _result(file: Path, pinned: Path | None, age_max_days: float) -> Result:
    """A run's result; of a capture only where its signature and its age are right."""
    if not seal.is_capture(file):
        return load(file)
    if pinned is None:
        raise SettingsError(f"{file} is a capture: name the key that it must be of with --pinned")
    result = seal.opened(file, seal.public_key(pinned))
    age = seal.age_days(result, datetime.datetime.now(datetime.UTC))
    err.print(f"{file}: signed by {pinned}, {age:.1f} days old", markup=False, soft_wrap=True)
    if age > age_max_days:
        raise SettingsError(
            f"{file}: {age:.0f} days old, and --age-max-days is {age_max_days:g}: capture it anew"
        )
    return result


def _target(url: str, model: str, key_env: str | None, cap_field: CapField) -> Target:
    return target(url, model, os.environ, key_env, cap_field)


def _conditions(
    asked: tuple[str | None, float | None, float | None], timeout_s: float, salt: str | None,
    rate: float | None, ceiling: float | None,
) -> Conditions:  # fmt: skip
    return Conditions(
        objective=_objective(*asked), timeout_s=timeout_s, salt=salt, rate_per_s=rate,
        ceiling_chunks_per_s=ceiling,
    )  # fmt: skip


def _objective(slo: str | None, ttft_ms: float | None, tpot_ms: float | None) -> Objective | None:
    if slo is None and ttft_ms is None and tpot_ms is None:
        return None
    if slo is not None and (ttft_ms is not None or tpot_ms is not None):
        raise SettingsError("give --slo, or --ttft-ms and --tpot-ms, not both")
    if slo is not None:
        if slo not in PRESETS:
            raise SettingsError(f"--slo {slo!r}: give one of {', '.join(PRESETS)}")
        return preset(slo)
    if ttft_ms is None or tpot_ms is None:
        raise SettingsError("a service level needs both --ttft-ms and --tpot-ms")
    return Objective(
        name=f"{ttft_ms:g}/{tpot_ms:g} ms", ttft_s=ttft_ms / 1000, tpot_s=tpot_ms / 1000
    )


def _fields(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"--fields is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError("--fields: give an object, such as '{\"temperature\": 0}'")
    return found


def _dated(kind: Literal["run", "sweep"]) -> Path:
    now = datetime.datetime.now(datetime.UTC)
    return FOLDER / f"{kind}-{now:%Y%m%d-%H%M%S}.json"


def _show_step(step: selfcheck.Step) -> None:
    word = "told truly" if step.told_truly else step.why_not
    err.print(
        f"{step.asked_chunks_per_s:,.0f}/s: {step.chunks_per_s:,.0f}/s came, TTFT off by "
        f"{step.ttft_error:.1%}, TPOT by {step.tpot_error:.1%}: {word}",
        soft_wrap=True,
    )


def _show_rate(rate: Rate) -> None:
    word = "held" if rate.held else "did not hold"
    marks = f" ({'; '.join(rate.marks)})" if rate.marks else ""
    err.print(
        f"{rate.rate_per_s:.3g}/s: {rate.met} of {rate.sent} met it ({rate.attainment:.1%}): {word}"
        f"{marks}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _rate(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}/s"
