"""LoRA adapters on disk: what is refused before an engine sees it, and with which reason.

An adapter is a folder in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
Its tensors are held against the weights of the model that is to carry it, module by module, so
that one made for another model is found by its shapes and not by its answers.
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from serve.core.errors import SettingsError
from serve.weights.digest import combined, digests_of, refuse_unsafe
from serve.weights.header import Tensor, tensors_of

CONFIG: Final = "adapter_config.json"
TENSORS: Final = "adapter_model.safetensors"
READ: Final = (CONFIG, TENSORS)
"""All that an engine reads of an adapter."""

FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
WHOLE: Final = FLOATS | {"F8_E4M3", "F8_E5M2"}
"""Formats of weights that have one number per entry; packed ones say nothing by their shape."""

_UNSUPPORTED: Final = (
    "use_dora", "lora_bias", "modules_to_save", "alora_invocation_tokens", "layer_replication",
    "use_bdlora", "use_qalora",
)  # fmt: skip
_PLAIN_STARTS: Final = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
_COPIED: Final = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
"""The base's own weights, which PEFT saves beside an adapter of them and engines pass over."""
_TENSOR_NAME: Final = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\."
    r"(?:lora_(?P<half>[AB])\.weight|lora_embedding_(?P<embedded>[AB]))$"
)


@dataclass(frozen=True, slots=True)
class Base:
    """The model that is to carry adapters: how it is called, and its modules.

    Modules are named from their layer on (`layers.0.self_attn.q_proj`): what stands before
    differs between a checkpoint and the program that trained on it. `sides` are the (values
    given, values taken) of the linear modules of a name; packed modules are not in it.
    """

    names: tuple[str, ...]
    modules: frozenset[str]
    sides: Mapping[str, frozenset[tuple[int, int]]]


def base_of(folder: Path, name: str) -> Base:
    """The base in a model's folder that the site calls `name`. Raises SettingsError."""
    config = _object(folder / "config.json")
    said = (config.get("_name_or_path"), config.get("_model_name_or_path"))
    names = (name, folder.name, *(one for one in said if isinstance(one, str)))
    modules: set[str] = set()
    sides: dict[str, frozenset[tuple[int, int]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for full, tensor in tensors_of(file).items():
            tail = _tail(full)
            steps = tail.split(".")
            modules.update(".".join(steps[:count]) for count in range(1, len(steps)))
            if steps[-1] == "weight" and len(tensor.shape) == 2 and tensor.dtype in WHOLE:
                module = ".".join(steps[:-1])
                sides[module] = sides.get(module, frozenset()) | {
                    (tensor.shape[0], tensor.shape[1])
                }
    return Base(names, frozenset(modules), sides)


def inspect_adapter(directory: Path, base: Base | None, rank_max: int) -> int:
    """Refuse an adapter that is not whole, not data, too large, or made for another model.

    Returns its largest rank. Without `base` nothing is held against weights. Raises SettingsError
    that names the file and the reason.
    """
    if not directory.is_dir():
        raise SettingsError(f"{directory}: no adapter here; put its folder there")
    root = directory.resolve()
    for path in directory.rglob("*"):
        refuse_unsafe(path, root)
    for name in READ:
        if not (directory / name).is_file():
            raise SettingsError(f"{directory}: no adapter here ({name} is missing)")
    config = _object(directory / CONFIG)
    _refuse_kind(directory / CONFIG, config)
    if base is not None:
        _refuse_other_base(directory / CONFIG, config, base)
    ranks = _ranks(directory / TENSORS, tensors_of(directory / TENSORS), base)
    rank = max(ranks.values())
    if rank > rank_max:
        raise SettingsError(
            f"{directory}: rank {rank} is above adapter_rank_max {rank_max}; raise it in the "
            "model file"
        )
    _refuse_said_rank(directory / CONFIG, config, ranks)
    return rank


def keep(directory: Path, digest: str, shelf: Path) -> Path:
    """A copy of what an engine reads of an adapter, under its digest; returns its folder.

    Engines read adapters again whenever they need room, so they read a copy that nobody edits.
    Raises SettingsError where the adapter changed while it was copied, or cannot be copied.
    """
    kept = shelf / digest.removeprefix("sha256:")
    if kept.is_dir():
        return kept
    part = shelf / f"{kept.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700, parents=True)
        for name in READ:
            shutil.copy2(directory / name, part / name)
        found, copied = digests_of(directory), digests_of(part)
        if combined(found) != digest or any(copied[name] != found.get(name) for name in READ):
            raise SettingsError(f"{directory}: changed while it was read; try again")
        part.replace(kept)
    except OSError as error:
        raise SettingsError(f"{directory}: cannot be copied to {kept}: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return kept


def _refuse_kind(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise SettingsError(f"{path}: peft_type is {config.get('peft_type')!r}; only LORA is run")
    if config.get("bias", "none") != "none":
        raise SettingsError(f"{path}: bias {config['bias']!r} is not run; only 'none'")
    for name in _UNSUPPORTED:
        if config.get(name):
            raise SettingsError(f"{path}: {name} is not run by the engine; train without it")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower() not in _PLAIN_STARTS:
        raise SettingsError(
            f"{path}: init_lora_weights {start!r} changes the base model's own weights; convert "
            "the adapter to a plain one with PEFT"
        )


def _refuse_other_base(path: Path, config: Mapping[str, Any], base: Base) -> None:
    """Compare names as words; a local path of whoever trained it says nothing."""
    said = config.get("base_model_name_or_path")
    if not isinstance(said, str) or not said or said.startswith(("/", ".", "~")):
        return
    words = _words(said)
    if not any(words <= (own := _words(name)) or own <= words for name in base.names):
        raise SettingsError(
            f"{path}: made for {said}, and this model is {base.names[0]}; where they are the "
            "same, name this one in base_model_name_or_path"
        )


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9.]+", name.rstrip("/").rsplit("/", 1)[-1].lower()))


def _ranks(path: Path, tensors: Mapping[str, Tensor], base: Base | None) -> dict[str, int]:
    """Module → rank, every module held against the base."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.endswith(_COPIED):
            continue
        found = _TENSOR_NAME.match(name)
        if found is None:
            raise SettingsError(f"{path}: {name} is not a tensor of a LoRA adapter")
        if tensor.dtype not in FLOATS or len(tensor.shape) != 2 or 0 in tensor.shape:
            raise SettingsError(f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}")
        half = found["half"] or found["embedded"]
        halves.setdefault(found["module"], {})[half] = tensor
    if not halves:
        raise SettingsError(f"{path}: holds no tensors")
    ranks: dict[str, int] = {}
    for module, pair in halves.items():
        if pair.keys() != {"A", "B"}:
            raise SettingsError(f"{path}: {module} has only its half {next(iter(pair))}")
        (rank, taken), (given, other) = pair["A"].shape, pair["B"].shape
        if rank != other:
            raise SettingsError(f"{path}: {module} has halves of ranks {rank} and {other}")
        if base is not None:
            _refuse_misfit(path, module, (given, taken), base)
        ranks[module] = rank
    return ranks


def _refuse_misfit(path: Path, module: str, sides: tuple[int, int], base: Base) -> None:
    tail = _tail(module).removesuffix(".base_layer")
    if tail not in base.modules:
        raise SettingsError(
            f"{path}: adapts {module}, which {base.names[0]} does not have; it was made for "
            "another model"
        )
    own = base.sides.get(tail)
    # An embedding's halves stand the other way round.
    if own is not None and not own & {sides, sides[::-1]}:
        given, taken = min(own)
        raise SettingsError(
            f"{path}: {module} takes {sides[1]} values and gives {sides[0]}, but in "
            f"{base.names[0]} it takes {taken} and gives {given}; it was made for another model"
        )


def _refuse_said_rank(path: Path, config: Mapping[str, Any], ranks: Mapping[str, int]) -> None:
    """The engine scales by the rank that the configuration says, so it must be the real one."""
    said, pattern = config.get("r"), config.get("rank_pattern") or {}
    if type(said) is not int or not isinstance(pattern, dict):
        raise SettingsError(f"{path}: r must be the adapter's rank, a whole number")
    allowed: Iterable[object] = (said, *pattern.values())
    module = next((one for one, rank in ranks.items() if rank not in allowed), None)
    if module is not None:
        raise SettingsError(f"{path}: says rank {said}, but {module} has rank {ranks[module]}")


def _tail(name: str) -> str:
    """A module's name from its layer on, else its last step or two (`lm_head.weight`)."""
    at = max(name.rfind(".layers."), name.rfind(".h."), name.rfind(".blocks."))
    if at >= 0:
        return name[at + 1 :]
    return name.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")


def _object(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{path}: not a JSON object")
    return value
