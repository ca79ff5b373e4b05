"""What must agree between the parts of a site: names, devices, and the door's guard."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from serve.settings.model import GPU_FRACTION_MAX, ServedModel
from serve.settings.names import Entry, clashes, names_of
from serve.settings.remote import problem_of
from serve.settings.routes import Route
from serve.settings.toolservers import ToolServer, problems_of

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
    yield from _of_ends(models)
    for index, model in enumerate(models):
        yield from _of_parallel(index, model)
        yield from _of_task(index, model)
        yield from _of_adapters(index, model)
        yield from _of_engine(index, model)
    yield from _of_shares(models)


def _of_names(models: Sequence[ServedModel]) -> Iterator[Conflict]:
    for index, owner, name, setting in clashes([model.entry for model in models]):
        yield Conflict(
            ("models", index, setting),
            f'"{name}" already means models[{owner}] ("{models[owner].config.name}"); '
            "give each model names and aliases of its own, and entries of one model different "
            "snapshots",
        )


def _of_ends(models: Sequence[ServedModel]) -> Iterator[Conflict]:
    """What is announced of a model's end: dates in order, and a successor that is there."""
    known = {name for names in names_of([model.entry for model in models]) for name in names}
    for index, model in enumerate(models):
        begins, ends = model.deprecated, model.sunset
        if ends is not None and (begins is None or ends < begins):
            yield Conflict(
                ("models", index, "sunset"),
                f"models[{index}].sunset needs a deprecated that is not after it (RFC 9745)",
            )
        if model.replaced_by is not None and model.replaced_by not in known:
            yield Conflict(
                ("models", index, "replaced_by"),
                f'models[{index}].replaced_by: no model "{model.replaced_by}" here; served: '
                f"{', '.join(sorted(known))}",
            )


def _of_adapters(index: int, model: ServedModel) -> Iterator[Conflict]:
    config = model.config
    if model.adaptable and config.task != "generate":
        setting = "adapters" if config.adapters else "adapter_dir"
        yield Conflict(
            ("models", index, setting),
            f"models[{index}].{setting} has no meaning for task {config.task}; remove it",
        )
    entries = [Entry(one.name, one.snapshot) for one in config.adapters]
    for later, earlier, name, _ in clashes(entries):
        yield Conflict(
            ("models", index, "adapters"),
            f'models[{index}].adapters[{later}]: "{name}" already means adapters[{earlier}]; '
            "give each a name, or a snapshot, of its own",
        )


def _of_engine(index: int, model: ServedModel) -> Iterator[Conflict]:
    """A server elsewhere: how it is reached, and what only engines here can be given."""
    remote = model.engine
    if remote is None:
        return
    for setting, said in (
        ("replicas", model.replicas > 1),
        ("load", model.load == "on_demand"),
        ("pin", model.pin),
        ("idle_sleep_s", model.idle_sleep_s is not None),
        ("devices", model.config.devices is not None),
        ("adapters", bool(model.config.adapters)),
        ("adapter_dir", model.config.adapter_dir is not None),
    ):
        if said:
            yield Conflict(
                ("models", index, setting),
                f"models[{index}].{setting} is for engines on this machine, and engine says that "
                "this model is answered elsewhere; remove one of them"
                + ("; further servers are named in engine.more_urls" * (setting == "replicas")),
            )
    place = ("models", index, "engine")
    for url in remote.urls:
        problem = problem_of(url, remote)
        if problem is not None:
            yield Conflict(place, f"models[{index}].engine: {url} {problem}")
    if len(set(remote.urls)) != len(remote.urls):
        yield Conflict(place, f"models[{index}].engine names one server twice")


def of_tool_servers(
    servers: Sequence[ToolServer], models: Sequence[ServedModel]
) -> Iterator[Conflict]:
    """What is wrong with tool servers in themselves, names that mean two, and models unknown."""
    names = [name for own in names_of([model.entry for model in models]) for name in own]
    seen: dict[str, int] = {}
    for index, server in enumerate(servers):
        at = f"tool_servers[{index}]"
        for place, text in problems_of(server):
            yield Conflict(("tool_servers", index, *place), f"{at}: {text}")
        first = seen.setdefault(server.name, index)
        if first != index:
            yield Conflict(
                ("tool_servers", index, "name"),
                f'{at}.name: "{server.name}" already means tool_servers[{first}]; rename one',
            )
        for number, name in enumerate(server.models):
            if name.partition(":")[0] not in names:
                yield Conflict(
                    ("tool_servers", index, "models", number),
                    f'{at}.models: no model "{name}" here; served: {", ".join(sorted(names))}',
                )


def of_routes(routes: Sequence[Route], models: Sequence[ServedModel]) -> Iterator[Conflict]:
    """Routes that have a model's name, and rules that name no model that generates."""
    own = list(zip(models, names_of([model.entry for model in models]), strict=True))
    known = [
        name for model, names in own if model.config.task == "generate"
        for name in _known(model, names)
    ]  # fmt: skip
    open_names = {
        name for model, names in own if model.config.adapter_dir is not None for name in names
    }
    taken = {name: "a model" for _, names in own for name in names}
    for index, route in enumerate(routes):
        if route.name in taken:
            yield Conflict(
                ("routes", index, "name"),
                f'routes[{index}].name: "{route.name}" already means {taken[route.name]}; choose '
                "another name",
            )
        taken[route.name] = f"routes[{index}]"
        targets: list[tuple[tuple[str | int, ...], str]] = [
            (("rules", number, "model"), rule.model) for number, rule in enumerate(route.rules)
        ]
        for place, name in (*targets, (("otherwise",), route.otherwise)):
            # What lies in an `adapter_dir` is not known before it is served.
            base, colon, _ = name.partition(":")
            if name not in known and not (colon and base in open_names):
                where = f"rules[{place[1]}].model" if len(place) > 1 else place[0]
                yield Conflict(
                    ("routes", index, *place),
                    f'routes[{index}].{where}: no model "{name}" generates here; these do: '
                    f"{', '.join(known)}",
                )


def _known(model: ServedModel, names: Sequence[str]) -> Iterator[str]:
    """A model's names, and with each those of its listed adapters."""
    entries = [Entry(one.name, one.snapshot) for one in model.config.adapters]
    for base in names:
        yield base
        yield from (f"{base}:{adapter}" for own in names_of(entries) for adapter in own)


def _of_parallel(index: int, model: ServedModel) -> Iterator[Conflict]:
    config = model.config
    if config.devices is None:
        return
    place = ("models", index, "devices")
    if len(set(config.devices)) != len(config.devices):
        yield Conflict(place, f"models[{index}].devices names a device twice")
    elif len(config.devices) != config.parallel.devices * model.replicas:
        spread = config.parallel
        takes = f"parallel takes {spread.devices}"
        if model.replicas > 1:
            needs = spread.devices * model.replicas
            takes = f"{model.replicas} replicas of {spread.devices} take {needs}"
        yield Conflict(
            place,
            f"models[{index}].devices names {len(config.devices)} devices, but {takes} "
            f"(tensor {spread.tensor} x pipeline {spread.pipeline} x data {spread.data}); change "
            "one of them",
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
        for device in set(config.devices or range(config.parallel.devices * model.replicas)):
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
