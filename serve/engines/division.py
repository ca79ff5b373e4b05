"""What of a machine each of several engines of one model takes. Pure."""

from dataclasses import replace
from typing import Final

from serve.core.errors import SetupError
from serve.engines.hardware import Hardware
from serve.settings.model import ServedModel

LABEL: Final = "#"
"""Between a model's id and the number of one of its engines; no name has it."""


def keys_of(model: ServedModel) -> tuple[str, ...]:
    """What a model's engines on this machine are called; none where it is answered elsewhere."""
    if model.engine is not None:
        return ()
    if model.replicas == 1:
        return (model.id,)
    return tuple(f"{model.id}{LABEL}{number}" for number in range(1, model.replicas + 1))


def divided(hardware: Hardware, model: ServedModel, at: int) -> tuple[Hardware, ServedModel]:
    """The machine and the model as engine number `at` of `model.replicas` is planned.

    GPUs: each engine has its own, in the order of `devices`, else from the first one on. CPUs:
    each has NUMA nodes of its own where there are enough; else all compute on the same cores, and
    each has its part of the memory. Raises SetupError where the GPUs do not suffice.
    """
    count, each = model.replicas, model.config.parallel.devices
    if count == 1:
        return hardware, model
    if hardware.gpus or model.config.devices is not None:
        return hardware, _on_devices(hardware, model, at)
    if len(hardware.nodes) >= count * each:
        return replace(hardware, nodes=hardware.nodes[at * each : (at + 1) * each]), model
    nodes = tuple(
        replace(node, available_bytes=node.available_bytes // count) for node in hardware.nodes
    )
    return replace(hardware, nodes=nodes), model


def _on_devices(hardware: Hardware, model: ServedModel, at: int) -> ServedModel:
    config = model.config
    count, each = model.replicas, config.parallel.devices
    devices = config.devices or tuple(range(count * each))
    there = len(config.devices or hardware.gpus)
    if there < count * each:
        raise SetupError(
            f"model {config.name}: {count} replicas need {count * each} GPUs, {each} each (tensor "
            f"x pipeline x data); there are {there}; lower replicas or parallel"
        )
    own = devices[at * each : (at + 1) * each]
    return model.model_copy(update={"config": config.model_copy(update={"devices": own})})
