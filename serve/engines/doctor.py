"""`inhouse doctor`: how each model would be run on this machine, why, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve.core.errors import SetupError
from serve.engines.hardware import GIB, Gpu, Hardware, probe
from serve.engines.profile import COMPILER_FIX, HEADERS_FIX, choose
from serve.engines.shape import Shape, shape_of
from serve.settings.model import ServedModel
from serve.settings.site import Site

Mark = Literal["ok", "note", "missing"]


@dataclass(frozen=True, slots=True)
class Row:
    """One finding. `subject`: "machine", "software" or a model's id."""

    subject: str
    mark: Mark
    name: str
    value: str
    reason: str = ""


def report(
    hardware: Hardware,
    models: Sequence[tuple[ServedModel, Shape | SetupError]],
    kind: Literal["auto", "stock"] = "auto",
) -> list[Row]:
    """Machine, software, then each model's choices and lacks. Pure.

    A model whose folder cannot be read comes with the error that says so.
    """
    rows = [*_machine(hardware), *_software(hardware)]
    for model, shape in models:
        rows.extend(_model(hardware, model, shape, kind))
    return rows


def examine(site: Site, out: Console) -> bool:
    """Print the report of a site on this machine; whether every model can be run."""
    models = [(model, _shape(model)) for model in site.models]
    rows = report(probe(), models, site.engine_defaults.profile)
    show(rows, out)
    return all(row.mark != "missing" for row in rows)


def show(rows: Sequence[Row], out: Console) -> None:
    """One table a subject."""
    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    for subject in dict.fromkeys(row.subject for row in rows):
        table = Table(title=subject, title_justify="left", show_header=False, box=None)
        for row in rows:
            if row.subject == subject:
                mark = Text(row.mark, style=colours[row.mark])
                # Texts, not markup: values may hold brackets.
                table.add_row(mark, Text(row.name), Text(row.value), Text(row.reason))
        out.print(table)
        out.print()


def _shape(model: ServedModel) -> Shape | SetupError:
    try:
        return shape_of(model.config.source.path)
    except SetupError as error:
        return error


def _machine(hardware: Hardware) -> list[Row]:
    cpu, memory = hardware.cpu, hardware.memory
    isa = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in cpu.flags]
    cores = sum(len(node.cores) for node in hardware.nodes)
    quota = f", {cpu.quota_cores:g} granted by cgroup" if cpu.quota_cores is not None else ""
    rows = [
        Row("machine", "ok", "CPU", cpu.name, ", ".join(isa)),
        Row("machine", "ok", "cores", f"{cores}{quota}", f"on {len(hardware.nodes)} NUMA nodes"),
        Row(
            "machine", "ok", "memory", f"{memory.total_bytes / GIB:.1f} GiB",
            f"{memory.available_bytes / GIB:.1f} GiB available",
        ),
    ]  # fmt: skip
    near = sum(node.total_bytes for node in hardware.nodes)
    if near < 0.9 * memory.total_bytes:
        rows.append(
            Row(
                "machine", "note", "NUMA memory", f"{near / GIB:.1f} GiB",
                "engines on the CPU get the memory at their cores' side only",
            )
        )  # fmt: skip
    for index, gpu in enumerate(hardware.gpus):
        rows.append(Row("machine", "ok", f"GPU {index}", gpu.name, _gpu(gpu)))
    if not hardware.gpus:
        rows.append(
            Row("machine", "note", "GPUs", "none", "nvidia-smi shows none; engines use the CPU")
        )
    return rows


def _gpu(gpu: Gpu) -> str:
    major, minor = gpu.capability
    return f"{gpu.memory_bytes / GIB:.0f} GiB, compute capability {major}.{minor}"


def _software(hardware: Hardware) -> list[Row]:
    tools = hardware.tools
    rows = [Row("software", "ok", "Python", tools.python)]
    for name, version in (("vLLM", tools.vllm), ("torch", tools.torch)):
        if version is None:
            rows.append(Row("software", "missing", name, "not installed", "run `make setup`"))
        else:
            rows.append(Row("software", "ok", name, version))
    if hardware.gpus:
        return rows
    for name, found, remedy in (
        ("C++ compiler", tools.compiler, f"models are compiled with {COMPILER_FIX}"),
        ("Python.h", tools.python_headers, f"models are compiled with {HEADERS_FIX}"),
        ("libiomp5", tools.libiomp, "`make setup` installs it (intel-openmp); slower without"),
        (
            "tcmalloc", tools.tcmalloc,
            "optional (Debian: apt install libtcmalloc-minimal4); no gain was measured",
        ),
    ):  # fmt: skip
        if found is None:
            rows.append(Row("software", "note", name, "not found", remedy))
        else:
            rows.append(Row("software", "ok", name, found))
    return rows


def _model(
    hardware: Hardware,
    model: ServedModel,
    shape: Shape | SetupError,
    kind: Literal["auto", "stock"],
) -> list[Row]:
    if isinstance(shape, SetupError):
        return [Row(model.id, "missing", "weights", "not found", shape.message)]
    rows = [Row(model.id, "ok", "weights", f"{shape.weights_bytes / GIB:.2f} GiB")]
    try:
        choices = choose(hardware, model, shape, kind).choices
    except SetupError as error:
        return [*rows, Row(model.id, "missing", "cannot run", "", error.message)]
    if kind == "stock":
        rows.append(Row(model.id, "note", "profile", "stock", "vLLM's own defaults"))
    rows.extend(Row(model.id, "ok", one.name, one.value, one.reason) for one in choices)
    return rows
