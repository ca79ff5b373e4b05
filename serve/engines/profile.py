"""How one model is run on one machine, every choice with its reason. Pure.

`docs/hardware-profile.md` says how the choices for CPUs were measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from serve.core.errors import SetupError
from serve.engines.hardware import GIB, Hardware, Node
from serve.engines.shape import Shape
from serve.settings.model import EngineArg, ServedModel

KV_CPU_SHARE: Final = 0.3
"""Share of the memory left beside the weights that a CPU engine's KV cache takes.

All of it is written once at the start (about 1 GiB/s), and other engines want memory too.
"""
KV_CPU_MAX_GIB: Final = 16
CPU_OVERHEAD_BYTES: Final = 2 * GIB
"""What an engine's processes hold beside weights and cache (measured: 1.5 GiB on AVX2)."""
CPU_STREAMS_MAX: Final = 64
CPU_BATCH_TOKENS: Final = 512
CPU_BLOCK_TOKENS: Final = 32
CPU_ALL_CORES_MAX: Final = 4
"""Machines of up to so many cores compute on all of them; larger ones keep one for HTTP."""
GPU_MEMORY_SHARE: Final = 0.92
GPU_STREAMS: Final = 256
GPU_STREAMS_LARGE: Final = 1024
GPU_LARGE_BYTES: Final = 70 * GIB
"""See vLLM's `EngineArgs.get_batch_defaults`."""

HEADERS_FIX: Final = "Python's headers (Debian: apt install python3-dev)"
COMPILER_FIX: Final = "a C++ compiler (Debian: apt install g++)"


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
    shape: Shape,
    kind: Literal["auto", "stock"] = "auto",
) -> Profile:
    """The profile of a model on a machine.

    `stock` sets nothing: vLLM's own defaults. Raises SetupError where the machine cannot run
    the model, with what to do.
    """
    if hardware.tools.vllm is None:
        raise SetupError("vLLM is not installed here; run `make setup`")
    if kind == "stock":
        return _Draft().done()
    return _on_gpu(hardware, model, shape) if hardware.gpus else _on_cpu(hardware, model, shape)


def _on_gpu(hardware: Hardware, model: ServedModel, shape: Shape) -> Profile:
    draft = _Draft()
    config = model.config
    devices = config.devices or tuple(range(config.parallel.devices))
    if config.parallel.devices > len(devices) or max(devices) >= len(hardware.gpus):
        raise SetupError(
            f"model {config.name}: needs {config.parallel.devices} GPUs (tensor x pipeline x "
            f"data) and may use numbers {','.join(map(str, devices))}; this machine has "
            f"{len(hardware.gpus)}; lower parallel, or correct devices"
        )
    listed = ",".join(map(str, devices))
    reason = "devices in the site file" if config.devices else "the first ones: no devices given"
    draft.setting("CUDA_VISIBLE_DEVICES", listed, reason)
    gpus = [hardware.gpus[index] for index in devices]
    if config.dtype != "auto":
        draft.arg("dtype", config.dtype, "dtype in the model file")
    elif min(gpu.capability for gpu in gpus) < (8, 0):
        draft.arg("dtype", "float16", "no bfloat16 below compute capability 8.0")
    else:
        draft.arg("dtype", "auto", "the checkpoint's own type: these GPUs compute in it")
    share = config.gpu_memory_fraction or GPU_MEMORY_SHARE
    _refuse_small_gpus(model, shape, share, min(gpu.memory_bytes for gpu in gpus))
    reason = (
        "gpu_memory_fraction in the model file"
        if config.gpu_memory_fraction
        else "alone on its GPUs: all but what the driver and CUDA graphs need"
    )
    draft.arg("gpu-memory-utilization", share, reason)
    if config.max_streams is not None:
        draft.arg("max-num-seqs", config.max_streams, "max_streams in the model file")
    elif config.task == "generate":
        large = all(
            gpu.memory_bytes >= GPU_LARGE_BYTES and "a100" not in gpu.name.lower() for gpu in gpus
        )
        streams = GPU_STREAMS_LARGE if large else GPU_STREAMS
        draft.arg("max-num-seqs", streams, "vLLM's own for such GPUs, said so that all know it")
    if model.idle_sleep_s is not None:
        draft.arg("enable-sleep-mode", True, "idle_sleep_s in the site file")
        draft.setting("VLLM_SERVER_DEV_MODE", "1", "vLLM answers /sleep in this mode only")
    return draft.done()


def _refuse_small_gpus(model: ServedModel, shape: Shape, share: float, smallest_bytes: int) -> None:
    parallel = model.config.parallel
    each_bytes = shape.weights_bytes / (parallel.tensor * parallel.pipeline)
    if each_bytes > share * smallest_bytes:
        raise SetupError(
            f"model {model.config.name}: {each_bytes / GIB:.1f} GiB of weights for each GPU, "
            f"{share * smallest_bytes / GIB:.1f} GiB are granted ({share:.0%} of "
            f"{smallest_bytes / GIB:.0f} GiB); raise parallel.tensor or gpu_memory_fraction"
        )


def _on_cpu(hardware: Hardware, model: ServedModel, shape: Shape) -> Profile:
    draft = _Draft()
    workers = model.config.parallel.devices
    if workers > len(hardware.nodes):
        raise SetupError(
            f"model {model.config.name}: parallel asks for {workers} CPU sockets (NUMA nodes), "
            f"this machine has {len(hardware.nodes)}; lower parallel, or use a machine with GPUs"
        )
    nodes = hardware.nodes[:workers]
    value_bytes = _cpu_dtype(draft, hardware, model)
    _cpu_preloads(draft, hardware)
    _cpu_threads(draft, hardware, nodes)
    _cpu_compile(draft, hardware, model)
    _cpu_memory(draft, model, shape, nodes, value_bytes)
    if model.config.task == "generate":
        _cpu_batching(draft, model)
    return draft.done()


def _cpu_dtype(draft: _Draft, hardware: Hardware, model: ServedModel) -> int:
    """Choose the dtype; its bytes a number."""
    if model.config.dtype != "auto":
        draft.arg("dtype", model.config.dtype, "dtype in the model file")
    elif hardware.cpu.bf16_matrix:
        draft.arg("dtype", "bfloat16", "this CPU multiplies bfloat16 matrices in hardware")
    else:
        draft.arg(
            "dtype",
            "float32",
            "no bfloat16 matrix instructions here: torch would emulate them at about 7 GFLOP/s",
        )
    return 4 if draft.args["dtype"] == "float32" else 2


def _cpu_preloads(draft: _Draft, hardware: Hardware) -> None:
    found = [lib for lib in (hardware.tools.tcmalloc, hardware.tools.libiomp) if lib]
    if found:
        reason = "Intel's OpenMP in place of GNU's" if hardware.tools.libiomp else ""
        if hardware.tools.tcmalloc:
            reason += f"{'; ' if reason else ''}tcmalloc, for it is installed"
        draft.setting("LD_PRELOAD", ":".join(found), reason)


def _cpu_threads(draft: _Draft, hardware: Hardware, nodes: tuple[Node, ...]) -> None:
    bound = [_computing(node.cores, hardware.cpu.quota_cores, len(nodes)) for node in nodes]
    if len(nodes) > 1 or hardware.tools.libiomp is None:
        draft.setting(
            "VLLM_CPU_OMP_THREADS_BIND",
            "|".join(map(ranges, bound)),
            "one thread a core, one worker a NUMA node; vLLM's `auto` leaves cores idle",
        )
        return
    # One worker: its threads start in the engine core itself. vLLM's own way starts a third
    # process for it, which costs its imports at each start and a hand-over at each token.
    draft.arg(
        "distributed-executor-backend", "uni", "one worker: no process of its own beside the core"
    )
    draft.setting("VLLM_ENABLE_V1_MULTIPROCESSING", "0", "lets a CPU engine have it so")
    draft.setting(
        "VLLM_WORKER_MULTIPROC_METHOD",
        "fork",
        "the core starts as a copy of the server: vLLM is imported once",
    )
    draft.setting(
        "OMP_NUM_THREADS", str(len(bound[0])), f"one on each of the cores {ranges(bound[0])}"
    )
    draft.setting("INHOUSE_CPUS", ranges(nodes[0].cores), "the cores of one NUMA node, no others")
    draft.setting("KMP_BLOCKTIME", "5", "ms that an idle thread spins before it lets go its core")
    draft.setting("KMP_TPAUSE", "0", "idle threads keep their core's clock up")


def _computing(cores: tuple[int, ...], quota: float | None, nodes: int) -> tuple[int, ...]:
    """Which of a node's cores compute."""
    count = len(cores) if len(cores) <= CPU_ALL_CORES_MAX else len(cores) - 1
    if quota is not None:
        count = min(count, max(1, int(quota / nodes)))
    return cores[:count]


def _cpu_compile(draft: _Draft, hardware: Hardware, model: ServedModel) -> None:
    draft.setting(
        "VLLM_USE_AOT_COMPILE",
        "0",
        "its cache is written but never read on a CPU; inductor's own is kept in var_dir instead",
    )
    if model.config.engine_args.get("enforce-eager"):
        return
    if model.config.task == "embed":
        draft.arg("enforce-eager", True, "compiling a small encoder costs more than it gains")
        return
    lacks = [
        fix
        for found, fix in (
            (hardware.tools.compiler, COMPILER_FIX),
            (hardware.tools.python_headers, HEADERS_FIX),
        )
        if found is None
    ]
    if lacks:
        raise SetupError(
            f"model {model.config.name}: compiling it needs {' and '.join(lacks)}; install, or "
            "set engine_args.enforce-eager: true in its model file (about 20 % slower)"
        )


def _cpu_memory(
    draft: _Draft, model: ServedModel, shape: Shape, nodes: tuple[Node, ...], value_bytes: int
) -> None:
    """Choose the KV cache's size, or refuse. vLLM binds a worker to the memory of one node."""
    config = model.config
    held = shape.weights_bytes * value_bytes // shape.weight_bytes // len(nodes)
    context = shape.kv_values_per_token * value_bytes * config.context_tokens // len(nodes)
    if config.task == "embed":
        context = 0  # encoders keep none; for decoders vLLM says so itself
    available = min(node.available_bytes for node in nodes)
    free = available - held - CPU_OVERHEAD_BYTES
    kv_gib = config.cpu_kv_gib or max(1, -(-context // GIB))
    if free < kv_gib * GIB:
        needed_gib = (held + CPU_OVERHEAD_BYTES) / GIB + kv_gib
        raise SetupError(
            f"model {config.name}: too little memory: {needed_gib:.1f} GiB needed "
            f"({held / GIB:.1f} weights, {kv_gib} KV cache, {CPU_OVERHEAD_BYTES / GIB:.0f} "
            f"vLLM), {available / GIB:.1f} GiB available on its NUMA node; free some, or lower "
            "context_tokens, or serve a smaller model"
        )
    reason = "GiB: cpu_kv_gib in the model file"
    if config.cpu_kv_gib is None:
        share = min(KV_CPU_MAX_GIB, int(free * KV_CPU_SHARE / GIB))
        reason = f"GiB: {KV_CPU_SHARE:.0%} of what is free beside weights and processes"
        if config.task == "embed":
            share, reason = 1, "GiB: embeddings keep nothing between requests"
        if share < kv_gib:
            reason = "GiB: one whole context"
        kv_gib = max(kv_gib, share)
    draft.setting("VLLM_CPU_KVCACHE_SPACE", str(kv_gib), reason)


def _cpu_batching(draft: _Draft, model: ServedModel) -> None:
    draft.arg(
        "max-num-seqs",
        model.config.max_streams or CPU_STREAMS_MAX,
        "max_streams in the model file"
        if model.config.max_streams
        else "more streams at once only slow each other on a CPU",
    )
    draft.arg(
        "max-num-batched-tokens",
        CPU_BATCH_TOKENS,
        "a step stays short, so that no stream waits long behind another's prompt",
    )
    draft.arg(
        "block-size", CPU_BLOCK_TOKENS, "tokens: shorter prompts find their prefix in the cache"
    )


def ranges(cores: tuple[int, ...]) -> str:
    """`0-3,8` for (0, 1, 2, 3, 8)."""
    spans: list[list[int]] = []
    for core in cores:
        if spans and core == spans[-1][1] + 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
