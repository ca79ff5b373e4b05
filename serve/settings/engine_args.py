"""Extra engine flags: what a site may add, and what it may not, with the reason.

The gateway's promises rest on flags it sets itself, on weights it has checked, and on an engine
that opens no door of its own. A flag that would undo one of these is refused when the site file
is read, and so is one that the installed vLLM does not know; values are for vLLM to judge.
"""

import difflib
import re
from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from serve.settings.vllm_flags import KNOWN, VERSION

EngineArg = bool | int | float | str

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_CODE = "it makes the engine load code or objects that are not part of the installation"
_WEIGHTS = "it makes the engine open files whose digest nobody has checked"
_NETWORK = "it makes the engine listen or connect; it talks only over its private socket"
_PRIVACY = "it writes prompts, answers or timings where they are not protected"
_ANSWERS = "it changes answers in ways the API does not promise"
_INHOUSE = "Inhouse sets it itself"

_SET_BY: Final[dict[str, str]] = {
    "model": "source.path",
    "served-model-name": "name and aliases",
    "dtype": "dtype",
    "max-model-len": "context_tokens",
    "tensor-parallel-size": "parallel.tensor",
    "pipeline-parallel-size": "parallel.pipeline",
    "data-parallel-size": "parallel.data",
    "tool-call-parser": "tool_parser",
    "enable-auto-tool-choice": "tool_parser",
    "reasoning-parser": "reasoning_parser",
    "chat-template": "chat_template",
    "gpu-memory-utilization": "gpu_memory_fraction",
    "device-memory-utilization": "gpu_memory_fraction",
    "device-ids": "devices",
    "quantization": "quantization",
    "max-num-seqs": "max_streams",
    "override-generation-config": "sampling",
    "enable-lora": "adapters or adapter_dir",
    "max-loras": "adapter_slots",
    "max-lora-rank": "adapter_rank_max",
    "runner": "task",
    "convert": "task",
    "log-level": "the site's log.level",
    "uvicorn-log-level": "the site's log.level",
}
"""Flags that have a setting of their own."""

_REFUSED: Final[dict[str, tuple[str, ...]]] = {
    _INHOUSE: (
        "headless", "api-server-count", "enable-prompt-tokens-details", "enable-sleep-mode",
        "enable-request-id-headers", "disable-log-stats", "disable-uvicorn-access-log",
        "disable-access-log-for-endpoints", "max-num-queued-reqs", "max-num-queued-tokens",
        "shutdown-timeout", "disable-fastapi-docs", "enable-offline-docs", "max-logprobs",
        "enable-per-request-metrics", "fail-on-environ-validation", "logging-config",
        "log-config-file", "aggregate-engine-logging", "enable-force-include-usage",
        "generation-config",
    ),
    _CODE: (
        "trust-remote-code", "trust-request-chat-template", "trust-request-mm-kwargs",
        "tool-parser-plugin", "reasoning-parser-plugin", "io-processor-plugin",
        "logits-processors", "model-class-overrides", "middleware", "worker-cls",
        "worker-extension-cls", "scheduler-cls", "tokenizer-mode", "config",
        "enable-prompt-embeds", "enable-mm-embeds", "code-revision",
    ),
    _WEIGHTS: (
        "tokenizer", "tokenizer-revision", "revision", "hf-config-path", "config-format",
        "load-format", "model-loader-extra-config", "download-dir", "ignore-patterns",
        "hf-token", "lora-modules", "default-mm-loras", "speculative-config",
        "spec-method", "spec-model", "spec-tokens", "weight-transfer-config",
        "allow-deprecated-quantization", "engram-config",
    ),
    _NETWORK: (
        "host", "port", "uds", "api-key", "root-path", "grpc", "tool-server",
        "otlp-traces-endpoint", "master-addr", "master-port", "nnodes", "node-rank",
        "distributed-executor-backend", "enable-server-load-tracking",
        "enable-tokenizer-info-endpoint", "enable-scale-out", "tokens-only",
        "enable-elastic-ep", "enable-fault-tolerance", "fault-tolerance-config",
        "allow-credentials", "ec-manager-config", "kv-offloading-backend",
        "media-io-kwargs",
    ),
    _PRIVACY: (
        "enable-log-requests", "enable-log-outputs", "enable-log-deltas", "max-log-len",
        "log-error-stack", "collect-detailed-traces", "profiler-config", "enable-trace-replay",
        "aux-output-config",
    ),
    _ANSWERS: (
        "response-role", "return-tokens-as-token-ids", "enable-return-routed-experts",
        "return-sampling-mask", "fingerprint-mode", "fingerprint-value", "cohere-format",
        "cohere-is-reasoning-model", "sse-keep-alive-interval", "skip-tokenizer-init",
    ),
}  # fmt: skip

_FAMILIES: Final[dict[str, str]] = {
    "ssl-": _NETWORK,
    "enable-ssl": _NETWORK,
    "allowed-": _NETWORK,
    "data-parallel-": _NETWORK,
    "dp-supervisor-": _NETWORK,
    "grpc-": _NETWORK,
    "h11-": _NETWORK,
    "kv-transfer-": _NETWORK,
    "kv-events-": _NETWORK,
    "ec-transfer-": _NETWORK,
    "mm-encoder-fp8-scale-": _WEIGHTS,
}

_REASONS: Final[dict[str, str]] = {
    **{name: f"set {field} instead" for name, field in _SET_BY.items()},
    **{name: reason for reason, names in _REFUSED.items() for name in names},
}


def reason_refused(name: str) -> str | None:
    """Why the flag `name` (dashes, no leading ones) is not allowed; None where it is.

    A short form of a refused flag is refused too: argparse completes it.
    """
    name = name.removeprefix("no-")
    if name in _REASONS:
        return _REASONS[name]
    for prefix, reason in _FAMILIES.items():
        if name.startswith(prefix):
            return reason
    meant = [full for full in (*_REASONS, *_FAMILIES) if full.startswith(name)]
    if meant:
        return f"it is short for --{meant[0].rstrip('-')}, and short forms are not allowed"
    return None


def normalised(name: str) -> str:
    """A flag's name with dashes; raises PydanticCustomError where it is refused."""
    flag = name.strip().removeprefix("--").replace("_", "-")
    if not _NAME.fullmatch(flag):
        raise PydanticCustomError(
            "engine_arg",
            "not an engine flag; write the long name without leading dashes, "
            "for example max-num-batched-tokens",
        )
    reason = reason_refused(flag)
    if reason is not None:
        raise PydanticCustomError("engine_arg", "not allowed: {reason}", {"reason": reason})
    if flag not in KNOWN:
        near = difflib.get_close_matches(flag, KNOWN, n=1)
        raise PydanticCustomError(
            "engine_arg",
            "vLLM {version} has no such flag; {fix}",
            {"version": VERSION, "fix": f"did you mean {near[0]}?" if near else "remove it"},
        )
    return flag


EngineArgName = Annotated[str, AfterValidator(normalised)]
