"""How one model is run on one machine, every choice with its reason. Pure.

The figures behind the CPU choices are in `benchmarks/results/engine_profile.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from serve.core.errors import SetupError
from serve.engines.hardware import GIB, Hardware
from serve.settings.model import EngineArg, ServedModel

KV_CPU_SHARE: Final = 0.4
"""Share of the memory left beside the weights that a CPU engine's KV cache takes."""
KV_CPU_MAX_GIB: Final = 16
ENGINE_OVERHEAD_BYTES: Final = 3 * GIB
"""What three vLLM processes hold beside weights and cache (measured: 2.4 GiB on AVX2)."""
CPU_STREAMS_MAX: Final = 64
CPU_BATCH_TOKENS: Final = 2048


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting of an engine. `name` is a vLLM flag or an environment variable."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Profile:
    """`args` and `env` for `serve.engines.launch`, and why they are so."""

    args: Mapping[str, EngineArg]
    env: Mapping[str, str]
    choices: tuple[Choice, ...]


class _Draft:
    def __init__(self) -> None:
        self.args: dict[str, EngineArg] = {}
        self.env: dict[str, str] = {}
        self.choices: list[Choice] = []

    def arg(self, name: str, value: EngineArg, reason: str) -> None:
        self.args[name] = value
        self.choices.append(Choice(f"--{name}", str(value), reason))

    def setting(self, name: str, value: str, reason: str) -> None:
        self.env[name] = value
        self.choices.append(Choice(name, value, reason))

    def done(self) -> Profile:
        return Profile(self.args, self.env, tuple(self.choices))


def choose(
    hardware: Hardware,
    model: ServedModel,
    weights_bytes: int,
    kind: Literal["auto", "stock"] = "auto",
) -> Profile:
    """The profile of a model whose weight files hold `weights_bytes`.

    `stock` sets nothing: vLLM's own defaults. Raises SetupError where the machine cannot run
    the model, with what to do.
    """
    if kind == "stock":
        return _Draft().done()
    if hardware.gpus:
        return _on_gpu(hardware, model)
    return _on_cpu(hardware, model, weights_bytes)


def _on_gpu(hardware: Hardware, model: ServedModel) -> Profile:
    draft = _Draft()
    config = model.config
    needed = config.parallel.tensor * config.parallel.pipeline * config.parallel.data
    if config.devices is not None:
        listed = ",".join(map(str, config.devices))
        draft.setting("CUDA_VISIBLE_DEVICES", listed, "devices in the site file")
    available = len(hardware.gpus) if config.devices is None else len(config.devices)
    if needed > available:
        raise SetupError(
            f"model {config.name}: needs {needed} GPUs (tensor x pipeline x data), {available} "
            "are there for it; lower parallel or list more devices"
        )
    if config.dtype != "auto":
        draft.arg("dtype", config.dtype, "dtype in the model file")
    elif hardware.gpus[0].capability < (8, 0):
        draft.arg("dtype", "float16", "no bfloat16 below compute capability 8.0")
    else:
        draft.arg("dtype", "auto", "the checkpoint's own type: these GPUs compute in it")
    share = config.gpu_memory_fraction or 0.92
    reason = (
        "gpu_memory_fraction in the model file"
        if config.gpu_memory_fraction
        else "one model on its GPUs: all but what the driver and CUDA graphs need"
    )
    draft.arg("gpu-memory-utilization", share, reason)
    if config.max_streams is not None:
        draft.arg("max-num-seqs", config.max_streams, "max_streams in the model file")
    return draft.done()


def _on_cpu(hardware: Hardware, model: ServedModel, weights_bytes: int) -> Profile:
    draft = _Draft()
    _cpu_dtype(draft, hardware, model)
    held_bytes = weights_bytes * (2 if draft.args.get("dtype") == "float32" else 1)
    _cpu_threads(draft, hardware)
    _cpu_preloads(draft, hardware)
    _cpu_compile(draft, hardware, model)
    _cpu_memory(draft, hardware, model, held_bytes)
    if model.config.task == "generate":
        streams = model.config.max_streams or CPU_STREAMS_MAX
        draft.arg("max-num-seqs", streams, "more streams at once only slow each other on a CPU")
        draft.arg(
            "max-num-batched-tokens",
            max(CPU_BATCH_TOKENS, 1),
            "a prefill step stays short, so that streams that decode do not stall behind it",
        )
    return draft.done()


def _cpu_dtype(draft: _Draft, hardware: Hardware, model: ServedModel) -> None:
    if model.config.dtype != "auto":
        draft.arg("dtype", model.config.dtype, "dtype in the model file")
    elif hardware.cpu.bf16_matrix:
        draft.arg("dtype", "bfloat16", "this CPU multiplies bfloat16 matrices in hardware")
    else:
        draft.arg(
            "dtype",
            "float32",
            "no bfloat16 matrix instructions: oneDNN refuses and torch falls back to about "
            "7 GFLOP/s",
        )


def _cpu_threads(draft: _Draft, hardware: Hardware) -> None:
    cores = hardware.cpu.cores
    quota = hardware.cpu.quota_cores
    if quota is not None and quota < len(cores):
        cores = cores[: max(1, int(quota))]
    draft.setting(
        "VLLM_CPU_OMP_THREADS_BIND",
        _ranges(cores),
        f"one thread on each of {len(cores)} cores; vLLM's `auto` keeps cores back for itself",
    )


def _cpu_preloads(draft: _Draft, hardware: Hardware) -> None:
    found = [lib for lib in (hardware.tools.tcmalloc, hardware.tools.libiomp) if lib]
    if found:
        draft.setting(
            "LD_PRELOAD",
            ":".join(found),
            "tcmalloc allocates with fewer locks; Intel's OpenMP keeps its threads hot",
        )


def _cpu_compile(draft: _Draft, hardware: Hardware, model: ServedModel) -> None:
    eager = model.config.engine_args.get("enforce-eager") or model.config.engine_args.get(
        "enforce_eager"
    )
    draft.setting(
        "VLLM_USE_AOT_COMPILE",
        "0",
        "its cache is written but never read on a CPU; inductor's own cache is kept instead",
    )
    if eager or model.config.task == "embed":
        if model.config.task == "embed":
            draft.arg("enforce-eager", True, "a small encoder gains nothing from compilation")
        return
    missing = [
        text
        for found, text in (
            (hardware.tools.compiler, "a C++ compiler (Debian: apt install g++)"),
            (hardware.tools.python_headers, "Python's headers (Debian: apt install python3-dev)"),
        )
        if found is None
    ]
    if missing:
        raise SetupError(
            f"model {model.config.name}: compiling it needs {' and '.join(missing)}; install, or "
            "set engine_args.enforce-eager: true (about 20 % slower)"
        )


def _cpu_memory(draft: _Draft, hardware: Hardware, model: ServedModel, held_bytes: int) -> None:
    free_bytes = hardware.memory.available_bytes - held_bytes - ENGINE_OVERHEAD_BYTES
    if free_bytes < GIB:
        needed_gib = (held_bytes + ENGINE_OVERHEAD_BYTES + GIB) / GIB
        raise SetupError(
            f"model {model.config.name}: too little memory: about {needed_gib:.1f} GiB needed, "
            f"{hardware.memory.available_bytes / GIB:.1f} GiB available; free some, or serve a "
            "smaller model"
        )
    asked = model.config.cpu_kv_gib
    kv_gib = asked or max(1, min(KV_CPU_MAX_GIB, int(free_bytes * KV_CPU_SHARE / GIB)))
    draft.setting(
        "VLLM_CPU_KVCACHE_SPACE",
        str(int(kv_gib)),
        "GiB: cpu_kv_gib in the model file"
        if asked
        else f"GiB: {KV_CPU_SHARE:.0%} of what is free beside weights and processes",
    )


def _ranges(cores: tuple[int, ...]) -> str:
    """`0-3,8` for (0, 1, 2, 3, 8)."""
    spans: list[list[int]] = []
    for core in cores:
        if spans and core == spans[-1][1] + 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
