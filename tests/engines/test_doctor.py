"""The report: every choice with its reason, and what is missing with its remedy."""

import io
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from serve.core.errors import SetupError
from serve.engines.doctor import Row, report, show
from serve.engines.hardware import GIB, Hardware, Node
from serve.engines.shape import Shape
from serve.settings.model import ServedModel

Models = Callable[..., ServedModel]

SMALL = Shape(GIB // 4, 2, 11_520)


def of(rows: list[Row], subject: str, name: str) -> Row:
    (row,) = [row for row in rows if (row.subject, row.name) == (subject, name)]
    return row


def test_a_healthy_machine_lacks_nothing(avx2: Hardware, model: Models) -> None:
    rows = report(avx2, [(model(), SMALL)])
    assert not [row for row in rows if row.mark == "missing"]
    assert of(rows, "software", "vLLM").value == "0.32.0"
    dtype = of(rows, "small", "--dtype")
    assert dtype.value == "float32"
    assert "no bfloat16" in dtype.reason
    tcmalloc = of(rows, "software", "tcmalloc")
    assert (tcmalloc.mark, "apt install libtcmalloc-minimal4" in tcmalloc.reason) == ("note", True)


def test_each_lack_comes_with_its_remedy(avx2: Hardware, model: Models) -> None:
    bare = replace(
        avx2, tools=replace(avx2.tools, python_headers=None), nodes=(Node((0,), GIB, GIB),)
    )
    rows = report(bare, [(model(), SMALL)])
    assert "python3-dev" in of(rows, "software", "Python.h").reason
    lack = of(rows, "small", "cannot run")
    assert (lack.mark, "python3-dev" in lack.reason) == ("missing", True)
    no_vllm = replace(avx2, tools=replace(avx2.tools, vllm=None))
    rows = report(no_vllm, [(model(), SMALL)])
    assert of(rows, "software", "vLLM").mark == "missing"
    assert "make setup" in of(rows, "small", "cannot run").reason


def test_missing_weights_do_not_hide_other_models(avx2: Hardware, model: Models) -> None:
    absent = SetupError("models/gone: no model there; put its files there")
    rows = report(avx2, [(model(name="gone"), absent), (model(), SMALL)])
    assert of(rows, "gone", "weights").mark == "missing"
    assert of(rows, "small", "weights").mark == "ok"


def test_memory_of_a_node_that_is_less_than_the_machine_s_is_noted(
    avx2: Hardware, model: Models
) -> None:
    assert of(report(avx2, []), "machine", "NUMA memory").value == "16.0 GiB"


def test_gpus_are_listed(h100_x8: Hardware, model: Models) -> None:
    rows = report(h100_x8, [(model(), SMALL)])
    assert "compute capability 9.0" in of(rows, "machine", "GPU 7").reason
    assert not [row for row in rows if row.name == "tcmalloc"]


def test_stock_is_said(avx2: Hardware, model: Models) -> None:
    rows = report(avx2, [(model(), SMALL)], "stock")
    assert of(rows, "small", "profile").value == "stock"
    assert not [row for row in rows if row.name == "--dtype"]


def test_what_is_shown_holds_every_row(avx2: Hardware, model: Models) -> None:
    text = io.StringIO()
    rows = report(avx2, [(model(engine_args={"kv-cache-dtype": "[red]"}), SMALL)])
    rows.append(Row("small", "note", "brackets", "[red]kept[/red]"))
    show(rows, Console(file=text, width=400))
    shown = text.getvalue()
    assert all(row.name in shown and row.reason in shown for row in rows)
    assert "[red]kept[/red]" in shown
