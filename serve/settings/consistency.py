"""What must agree between the parts of a site: names, devices, and the door's guard."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from serve.settings.model import GPU_FRACTION_MAX, ServedModel

_ROUNDING: Final = 1e-9


class Conflict(NamedTuple):
    """One disagreement; `place` leads to the value at fault in the site file."""

    place: tuple[str | int, ...]
    text: str


def of_door(loopback: bool, auth_mode: str, host: str) -> Iterator[Conflict]:
    """No key is asked for only where nobody else can knock."""
    if auth_mode == "none" and not loopback:
        yield Conflict(
            ("auth", "mode"),
            f"auth.mode none serves anyone who can reach {host}; it is allowed only on a loopback "
            "address: set listen.host to 127.0.0.1, or auth.mode to keys",
        )


def of_models(models: Sequence[ServedModel]) -> Iterator[Conflict]:
    """Names that mean two models, and devices that are counted or shared wrongly."""
    yield from _of_names(models)
    for index, model in enumerate(models):
        yield from _of_parallel(index, model)
        yield from _of_task(index, model)
    yield from _of_shares(models)


def _of_names(models: Sequence[ServedModel]) -> Iterator[Conflict]:
    owners: dict[str, int] = {}
    for index, model in enumerate(models):
        keys = {model.id: "snapshot", model.config.name: "name"}
        for name in model.names:
            owner = owners.setdefault(name, index)
            if owner == index:
                continue
            other = models[owner].config.name
            place: tuple[str | int, ...] = ("models", index, keys.get(name, "aliases"))
            yield Conflict(
                place,
                f'"{name}" already means models[{owner}] ("{other}"); '
                "give each model names, aliases and a snapshot of its own",
            )


def _of_parallel(index: int, model: ServedModel) -> Iterator[Conflict]:
    config = model.config
    if config.devices is None:
        return
    place = ("models", index, "devices")
    if len(set(config.devices)) != len(config.devices):
        yield Conflict(place, f"models[{index}].devices names a device twice")
    elif len(config.devices) != config.parallel.devices:
        spread = config.parallel
        yield Conflict(
            place,
            f"models[{index}].devices names {len(config.devices)} devices, but parallel takes "
            f"{spread.devices} (tensor {spread.tensor} x pipeline {spread.pipeline} x data "
            f"{spread.data}); change one of them",
        )


def _of_task(index: int, model: ServedModel) -> Iterator[Conflict]:
    if model.config.task != "embed":
        return
    for field in ("tool_parser", "reasoning_parser", "chat_template", "harmony_vocab"):
        if getattr(model.config, field) is not None:
            yield Conflict(
                ("models", index, field),
                f"models[{index}].{field} has no meaning for task embed; remove it",
            )


def _of_shares(models: Sequence[ServedModel]) -> Iterator[Conflict]:
    """Shares of each GPU's memory. Models that name neither devices nor a share are not counted:
    whether they run on a GPU is known only on the machine."""
    tenants: dict[int, list[int]] = defaultdict(list)
    for index, model in enumerate(models):
        config = model.config
        if config.devices is None and config.gpu_memory_fraction is None:
            continue
        for device in set(config.devices or range(config.parallel.devices)):
            tenants[device].append(index)
    for device, indices in sorted(tenants.items()):
        if len(indices) < 2:
            continue
        shares = [models[index].config.gpu_memory_fraction for index in indices]
        for index, share in zip(indices, shares, strict=True):
            if share is None:
                yield Conflict(
                    ("models", index, "devices"),
                    f"models[{index}] shares GPU {device} with another model, so it needs "
                    "gpu_memory_fraction",
                )
        taken = sum(share or 0.0 for share in shares)
        if taken > GPU_FRACTION_MAX + _ROUNDING:
            yield Conflict(
                ("models", indices[-1], "gpu_memory_fraction"),
                f"models on GPU {device} take {taken:.2f} of its memory together; lower "
                f"gpu_memory_fraction until they take at most {GPU_FRACTION_MAX}",
            )
