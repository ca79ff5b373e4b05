"""The launch plan of an engine: what is run, with which environment. Pure."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve.core.errors import SettingsError
from serve.engines.profile import Profile
from serve.settings.model import EngineArg, ServedModel

SOCKET_PATH_MAX_BYTES: Final = 107
"""sun_path of sockaddr_un holds 108 bytes with its terminator (unix(7))."""

INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LD_LIBRARY_PATH", "CUDA_HOME",
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
    "VLLM_SERVER_DEV_MODE": "0",
    # Only our own plug-in, which ties the engine's children to their parent.
    "VLLM_PLUGINS": "inhouse_mortality",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
}

RESERVED: Final[Mapping[str, str]] = {
    "model": "source.path says it",
    "served-model-name": "the model's name says it",
    "host": "engines listen on a private socket only",
    "port": "engines listen on a private socket only",
    "uds": "engines listen on a private socket only",
    "api-key": "keys are checked at the gateway",
    "trust-remote-code": "code from model directories is never run",
    "middleware": "code from a settings file is never run",
    "tool-parser-plugin": "code from a settings file is never run",
    "reasoning-parser-plugin": "code from a settings file is never run",
    "logits-processors": "code from a settings file is never run",
    "worker-cls": "code from a settings file is never run",
    "worker-extension-cls": "code from a settings file is never run",
    "allowed-local-media-path": "requests may not read files of this machine",
    "allowed-media-domains": "requests may not make this machine fetch addresses",
    "enable-prompt-embeds": "requests may not carry tensors",
    "trust-request-chat-template": "templates from a request are never run",
    "chat-template": "chat_template says it",
    "tool-call-parser": "tool_parser says it",
    "reasoning-parser": "reasoning_parser says it",
    "max-model-len": "context_tokens says it",
    "tensor-parallel-size": "parallel.tensor says it",
    "pipeline-parallel-size": "parallel.pipeline says it",
    "data-parallel-size": "parallel.data says it",
    "dtype": "dtype says it",
}


@dataclass(frozen=True)
class LaunchPlan:
    """What one engine process is: command, whole environment, and where it will answer."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    socket: Path
    cwd: Path
    ready_timeout_s: float


def plan(
    model: ServedModel,
    profile: Profile,
    *,
    run_dir: Path,
    var_dir: Path,
    environ: Mapping[str, str],
    ready_timeout_s: float,
) -> LaunchPlan:
    """The plan of a vLLM engine.

    `run_dir` holds the socket, `var_dir` what is kept between starts (compile caches).
    Raises SettingsError for an engine argument that is ours to set or refused.
    """
    socket = socket_of(run_dir, model)
    caches = var_dir / "cache" / "engines" / model.config.name
    env = {name: environ[name] for name in INHERITED if name in environ}
    env |= CLOSED
    env |= {
        "VLLM_CACHE_ROOT": str(caches / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "HF_HOME": str(caches / "huggingface"),
        "INHOUSE_ENGINE": model.id,
    }
    if model.config.harmony_vocab is not None:
        env["TIKTOKEN_ENCODINGS_BASE"] = str(model.config.harmony_vocab)
    env |= profile.env
    return LaunchPlan(
        argv=(sys.executable, "-m", "serve.engines.vllm_main", *vllm_argv(model, profile, socket)),
        env=env,
        socket=socket,
        cwd=run_dir,
        ready_timeout_s=ready_timeout_s,
    )


def fake_plan(
    model: ServedModel, knobs: tuple[str, ...], *, run_dir: Path, environ: Mapping[str, str]
) -> LaunchPlan:
    """The plan of a fake engine (`serve.engines.fake`) with these knobs."""
    socket = socket_of(run_dir, model)
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
            *knobs,
        ),
        env={name: environ[name] for name in INHERITED if name in environ},
        socket=socket,
        cwd=run_dir,
        ready_timeout_s=30.0,
    )


def socket_of(run_dir: Path, model: ServedModel) -> Path:
    """Where the engine will listen; raises SettingsError where the path is too long."""
    socket = run_dir / f"{model.id}.sock"
    if len(str(socket).encode()) > SOCKET_PATH_MAX_BYTES:
        raise SettingsError(
            f"{socket}: too long for a Unix socket ({SOCKET_PATH_MAX_BYTES} bytes at most); "
            "shorten var_dir"
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
        "max-logprobs": 20,
        "disable-uvicorn-access-log": True,
        "enable-prompt-tokens-details": True,
        "limit-mm-per-prompt": "{}",
    }
    if config.task == "embed":
        args["runner"] = "pooling"
        del args["limit-mm-per-prompt"]
    else:
        del args["limit-mm-per-prompt"]
    for flag, size in (
        ("tensor-parallel-size", config.parallel.tensor),
        ("pipeline-parallel-size", config.parallel.pipeline),
        ("data-parallel-size", config.parallel.data),
    ):
        if size > 1:
            args[flag] = size
    if config.tool_parser:
        args |= {"enable-auto-tool-choice": True, "tool-call-parser": config.tool_parser}
    if config.reasoning_parser:
        args["reasoning-parser"] = config.reasoning_parser
    if config.quantization:
        args["quantization"] = config.quantization
    if sampling := config.sampling.model_dump(exclude_none=True):
        args["override-generation-config"] = json.dumps(sampling)
    if config.chat_template:
        args["chat-template"] = str(config.chat_template)
    args |= profile.args
    for name, value in config.engine_args.items():
        flag = name.replace("_", "-").lstrip("-")
        base = flag.removeprefix("no-")
        if base in RESERVED:
            raise SettingsError(
                f"model {config.name}: engine_args.{name} is refused: {RESERVED[base]}"
            )
        args[flag] = value
    return tuple(_words(args))


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
