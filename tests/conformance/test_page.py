"""docs/conformance.md says what the suites are held to."""

from pathlib import Path

from tests.conformance.applicability import CHECKED, page, served

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_has_the_tables() -> None:
    text = PAGE.read_text()
    _, _, rest = text.partition("<!-- tables -->\n")
    assert rest.partition("<!-- end -->")[0].strip() == page().strip()
    assert all(one in text for one in CHECKED)


def test_what_is_served_is_told_by_the_path() -> None:
    assert served("test_responses.py")
    assert served("chat/completions/test_messages.py")
    assert served("responses/test_input_items.py")
    assert not served("beta/responses/test_input_items.py")
    assert not served("test_moderations.py")
    assert served("responses/input-items.test.ts")
    assert not served("fine-tuning/jobs/jobs.test.ts")
    assert not served("vector_stores/test_files.py")
