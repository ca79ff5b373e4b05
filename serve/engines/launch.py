"""The launch plan of an engine: what is run, with which environment. Pure."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve.core.errors import SettingsError
from serve.engines.client import ENGINE_KEEP_ALIVE_S
from serve.engines.profile import Profile
from serve.settings.model import EngineArg, ModelConfig, ServedModel

SOCKET_PATH_MAX_BYTES: Final = 107
"""sun_path of sockaddr_un holds 108 bytes with its terminator (unix(7))."""

FAKE_READY_TIMEOUT_S: Final = 30.0
PRIORITY_POLICY: Final = "priority"
"""Requests of equal priority are taken in the order of coming; others before or after them."""
SPARE_PART: Final = 2
SPARE_MAX: Final = 64
"""One more stream in so many, and how many at most; see `serve.admission.line`."""
LOGPROBS_MAX: Final = 20
"""What OpenAI's API allows for `top_logprobs`."""

INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LD_LIBRARY_PATH", "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
)  # fmt: skip
"""All that an engine sees of our own environment: no key, no proxy, no stray VLLM_* setting."""

CLOSED: Final[Mapping[str, str]] = {
    # Nothing leaves: no usage statistics, no hub, no telemetry of any library.
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OTEL_SDK_DISABLED": "true",
    # Pickle between processes stays off (CVE-2024-50050, CVE-2025-30202).
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
    "VLLM_SERVER_DEV_MODE": "0",
    # No plug-in: other packages' entry points are not part of the installation.
    "VLLM_PLUGINS": "",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(ENGINE_KEEP_ALIVE_S),
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
}

SCRATCH_VARIABLE: Final = "TMPDIR"
"""The engine's own directory for what it writes while it runs; emptied when it starts."""


@dataclass(frozen=True)
class LaunchPlan:
    """What one engine process is: command, whole environment, and where it will answer."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    socket: Path
    cwd: Path
    ready_timeout_s: float
    computes_on_cpu: bool = True
    """Its steps are the CPU's work, so that CPU time says something of them."""
    streams: int | None = None
    """Requests that it works on at once, where that is decided here; it is started with more, see
    `spare_of`."""


def plan(
    model: ServedModel,
    profile: Profile,
    *,
    run_dir: Path,
    var_dir: Path,
    environ: Mapping[str, str],
    ready_timeout_s: float,
    key: str | None = None,
) -> LaunchPlan:
    """The plan of a vLLM engine.

    `run_dir` holds the socket, `var_dir` what is kept between starts (compile caches). `key` tells
    its files there from those of other engines of the same model.
    The profile's settings come before Inhouse's own, the model file's `engine_args` before both;
    which flags may stand there is checked when it is read (`serve.settings.engine_args`).
    Raises SettingsError where `run_dir` is too long a path for a socket.
    """
    key = key or model.id
    socket = socket_of(run_dir, key)
    shared = var_dir / "cache" / "engines"
    caches = shared / model.config.name
    env = {name: environ[name] for name in INHERITED if name in environ}
    env |= CLOSED
    env |= {
        "VLLM_CACHE_ROOT": str(caches / "vllm"),
        "VLLM_CONFIG_ROOT": str(caches / "vllm-config"),
        "VLLM_RPC_BASE_PATH": str(run_dir),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        # Read while modules are imported, so the same for all: a standby cannot change them.
        "HF_HOME": str(shared / "huggingface"),
        "XDG_CACHE_HOME": str(shared),
        "XDG_CONFIG_HOME": str(shared / "config"),
        SCRATCH_VARIABLE: str(run_dir / f"{key}.tmp"),
        "INHOUSE_ENGINE": model.id,
    }
    if model.adaptable:
        # Its routes take any path, but only the gateway can reach the engine's socket, and it
        # sends paths of copies that it has checked (`serve.engines.adapters`).
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if model.config.harmony_vocab is not None:
        env["TIKTOKEN_ENCODINGS_BASE"] = str(model.config.harmony_vocab)
    env |= profile.env
    return LaunchPlan(
        argv=(sys.executable, "-m", "serve.engines.vllm_main", *vllm_argv(model, profile, socket)),
        env=env,
        socket=socket,
        cwd=run_dir,
        ready_timeout_s=ready_timeout_s,
        # A profile for GPUs names them; without one nothing is known but that CPUs are the rule.
        computes_on_cpu="CUDA_VISIBLE_DEVICES" not in profile.env,
        streams=_streams(model, profile),
    )


def fake_plan(
    model: ServedModel,
    knobs: tuple[str, ...],
    *,
    run_dir: Path,
    environ: Mapping[str, str],
    key: str | None = None,
    ready_timeout_s: float = FAKE_READY_TIMEOUT_S,
) -> LaunchPlan:
    """The plan of a fake engine (`serve.engines.fake`) with these knobs."""
    socket = socket_of(run_dir, key or model.id)
    streams = model.config.max_streams
    return LaunchPlan(
        argv=(
            sys.executable,
            "-m",
            "serve.engines.fake",
            "--uds",
            str(socket),
            "--model",
            model.id,
            "--context-tokens",
            str(model.config.context_tokens),
            "--lora-rank-max",
            str(model.config.adapter_rank_max),
            *(() if streams is None else ("--max-streams", str(streams + spare_of(streams)))),
            *knobs,
        ),
        env={name: environ[name] for name in INHERITED if name in environ},
        socket=socket,
        cwd=run_dir,
        ready_timeout_s=min(ready_timeout_s, FAKE_READY_TIMEOUT_S),
        streams=streams,
    )


def spare_of(streams: int) -> int:
    """Streams beyond so many, for tenants that have less than their share of them."""
    return min(SPARE_MAX, streams // SPARE_PART)


def _streams(model: ServedModel, profile: Profile) -> int | None:
    each = profile.args.get("max-num-seqs") if model.config.task == "generate" else None
    return None if each is None else int(each) * model.config.parallel.data


def socket_of(run_dir: Path, key: str) -> Path:
    """Where the engine will listen; raises SettingsError where the path is too long."""
    socket = run_dir / f"{key}.sock"
    # vLLM's processes meet on sockets of their own there, named by a UUID of 36 characters.
    longest = max(len(str(socket).encode()), len(str(run_dir).encode()) + 1 + 36)
    if longest > SOCKET_PATH_MAX_BYTES:
        raise SettingsError(
            f"{run_dir}: too long for Unix sockets in it ({longest} bytes, "
            f"{SOCKET_PATH_MAX_BYTES} at most); set a shorter var_dir"
        )
    return socket


def vllm_argv(model: ServedModel, profile: Profile, socket: Path) -> tuple[str, ...]:
    """vLLM's own command line, without the program."""
    config = model.config
    args: dict[str, EngineArg] = {
        "model": str(config.source.path),
        "served-model-name": model.id,
        "uds": str(socket),
        "max-model-len": config.context_tokens,
        "disable-uvicorn-access-log": True,
        "disable-fastapi-docs": True,
    }
    if config.task == "embed":
        args["runner"] = "pooling"
    else:
        args |= _generation_args(config)
    if model.adaptable:
        args |= {
            "enable-lora": True,
            "max-loras": config.adapter_slots,
            "max-lora-rank": config.adapter_rank_max,
        }
    for flag, size in (
        ("tensor-parallel-size", config.parallel.tensor),
        ("pipeline-parallel-size", config.parallel.pipeline),
        ("data-parallel-size", config.parallel.data),
    ):
        if size > 1:
            args[flag] = size
    if config.quantization:
        args["quantization"] = config.quantization
    chosen = dict(profile.args)
    if (streams := chosen.get("max-num-seqs")) is not None and config.task == "generate":
        chosen["max-num-seqs"] = int(streams) + spare_of(int(streams))
    return tuple(_words({**args, **chosen, **config.engine_args}))


def _generation_args(config: ModelConfig) -> dict[str, EngineArg]:
    args: dict[str, EngineArg] = {
        "max-logprobs": LOGPROBS_MAX,
        "enable-prompt-tokens-details": True,
        "scheduling-policy": PRIORITY_POLICY,
    }
    if config.images:
        args["limit-mm-per-prompt"] = json.dumps({"image": config.images, "video": 0, "audio": 0})
    if config.tool_parser:
        args |= {"enable-auto-tool-choice": True, "tool-call-parser": config.tool_parser}
    if config.reasoning_parser:
        args["reasoning-parser"] = config.reasoning_parser
    if config.chat_template:
        args["chat-template"] = str(config.chat_template)
    sampling = config.sampling.model_dump(exclude_none=True)
    if sampling:
        args["override-generation-config"] = json.dumps(sampling)
    return args


def _words(args: Mapping[str, EngineArg]) -> list[str]:
    words: list[str] = []
    for name, value in args.items():
        if value is True:
            words.append(f"--{name}")
        elif value is False:
            words.append(f"--no-{name}")
        else:
            words.append(f"--{name}={value}")
    return words
