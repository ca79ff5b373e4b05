"""The table of swaps in the documents is that of the record."""

from pathlib import Path

import orjson

from benchmarks.swap_table import table

ROOT = Path(__file__).parents[2]


def test_the_documents_show_the_record() -> None:
    text = (ROOT / "docs" / "engines.md").read_text()
    shown = text.partition("<!-- swap: begin -->\n")[2].partition("\n<!-- swap: end -->")[0]
    record = orjson.loads((ROOT / "benchmarks" / "results" / "swap.json").read_bytes())
    assert shown == table(record)
