"""What an engine is taken to need before it has been measured, and what there is. Pure.

On a CPU the key/value cache is of the size that the profile chose, and is written whole at the
start. On GPUs vLLM takes the share it is given, whatever the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from serve.core.errors import SetupError
from serve.engines.hardware import GIB, Hardware
from serve.engines.memory import HOST, Amounts, Footprint, Need, gpu
from serve.engines.profile import CPU_OVERHEAD_BYTES, Profile
from serve.engines.records import record_key
from serve.engines.shape import Shape
from serve.settings.model import GPU_FRACTION_MAX, ServedModel
from serve.settings.operation import Memory

GPU_SHARE_STOCK: Final = 0.92
"""vLLM's own default of `--gpu-memory-utilization`."""
CPU_KV_STOCK_BYTES: Final = 4 * GIB
"""What vLLM takes for its cache on a CPU where nobody says."""
GPU_HOST_BYTES: Final = 4 * GIB
"""What the processes of an engine on a GPU hold of the machine's memory, for each device."""
GPU_ASLEEP_BYTES: Final = 2 * GIB
"""What stays on a device while an engine sleeps: CUDA's context and graphs."""
KEPT_SHARE_MAX: Final = 0.5
"""Of the machine's memory, for the weights of one sleeping engine; larger ones are read again."""
FAKE_BYTES: Final = GIB // 16
FAKE_GPU_BYTES: Final = 80 * GIB
"""A device as fake engines dream of it, where `memory.device_gib` does not say."""


def footprint(model: ServedModel, shape: Shape, profile: Profile, hardware: Hardware) -> Footprint:
    """Of a vLLM engine, by its weights on disk and the profile's choices."""
    return Footprint(
        estimate=estimate(model, shape, profile, hardware),
        record_key=record_key(model.config, hardware),
        kv_bytes=0 if hardware.gpus else kv_bytes(profile.env),
        on_devices=bool(hardware.gpus),
    )


def estimate(model: ServedModel, shape: Shape, profile: Profile, hardware: Hardware) -> Need:
    """What a vLLM engine is taken to need."""
    if not hardware.gpus:
        return Need({HOST: _on_cpu(model, shape, profile)})
    config = model.config
    devices = config.devices or tuple(range(config.parallel.devices))
    share = profile.args.get("gpu-memory-utilization", GPU_SHARE_STOCK)
    awake = {gpu(at): int(float(share) * hardware.gpus[at].memory_bytes) for at in devices}
    beside = GPU_HOST_BYTES * len(devices)
    if not profile.args.get("enable-sleep-mode"):
        return Need(awake | {HOST: beside})
    asleep = {gpu(at): GPU_ASLEEP_BYTES for at in devices}
    kept = shape.weights_bytes
    if kept > KEPT_SHARE_MAX * hardware.memory.available_bytes:
        return Need(awake | {HOST: beside}, asleep | {HOST: beside}, sleep_level=2)
    return Need(awake | {HOST: beside}, asleep | {HOST: beside + kept})


def estimate_fake(model: ServedModel, memory: Memory) -> Need:
    """What a fake engine stands for: `cpu_kv_gib`, or its part of the devices that it names.

    It takes none of that, so that portfolios larger than this machine can be tried on it.
    """
    config = model.config
    if config.devices is None:
        return Need({HOST: (config.cpu_kv_gib or 0) * GIB or FAKE_BYTES})
    whole = int(memory.device_gib * GIB) if memory.device_gib else FAKE_GPU_BYTES
    share = int((config.gpu_memory_fraction or GPU_SHARE_STOCK) * whole)
    awake = {gpu(at): share for at in config.devices}
    asleep = {gpu(at): share // 32 for at in config.devices}
    return Need(awake | {HOST: FAKE_BYTES}, asleep | {HOST: 2 * FAKE_BYTES})


def capacity(hardware: Hardware, memory: Memory) -> Amounts:
    """What engines may take together, as the site says, else as the machine is now."""
    spare = hardware.memory.available_bytes - int(memory.reserve_gib * GIB)
    host = spare if memory.host_gib is None else int(memory.host_gib * GIB)
    device = None if memory.device_gib is None else int(memory.device_gib * GIB)
    devices = {
        gpu(at): int(one.memory_bytes * GPU_FRACTION_MAX) if device is None else device
        for at, one in enumerate(hardware.gpus)
    }
    return {HOST: host} | devices


def capacity_fake(hardware: Hardware, models: Sequence[ServedModel], memory: Memory) -> Amounts:
    """As `capacity`, with every device that the models name."""
    named = {at for model in models for at in model.config.devices or ()}
    whole = int(memory.device_gib * GIB) if memory.device_gib else FAKE_GPU_BYTES
    return {**capacity(hardware, memory), **{gpu(at): whole for at in named}}


def bounded(hardware: Hardware, memory: Memory) -> Hardware:
    """The machine as profiles shall see it: with no more free memory than engines may take."""
    host = capacity(hardware, memory)[HOST]
    if host <= 0:
        raise SetupError(
            f"memory.reserve_gib leaves engines nothing of the "
            f"{hardware.memory.available_bytes / GIB:.1f} GiB that are available; lower it, or "
            "free some"
        )
    nodes = tuple(
        replace(node, available_bytes=min(node.available_bytes, host)) for node in hardware.nodes
    )
    return replace(hardware, nodes=nodes)


def _on_cpu(model: ServedModel, shape: Shape, profile: Profile) -> int:
    workers = model.config.parallel.devices
    value_bytes = 4 if profile.args.get("dtype") == "float32" else 2
    weights = shape.weights_bytes * value_bytes // shape.weight_bytes
    return weights + workers * (CPU_OVERHEAD_BYTES + kv_bytes(profile.env))


def kv_bytes(env: Mapping[str, str]) -> int:
    """What of an engine's need on a CPU is its cache, by its profile's settings."""
    said = env.get("VLLM_CPU_KVCACHE_SPACE")
    return CPU_KV_STOCK_BYTES if said is None else int(said) * GIB
