"""`encrypted_content`: what a client keeps for this server comes back as it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.respond.sealed import MARK, seal, unseal


@given(st.text())
@settings(max_examples=100, deadline=None, database=None)
def test_a_text_comes_back(text: str) -> None:
    sealed = seal(text)
    assert unseal(sealed) == text
    assert sealed.isascii()
    assert sealed.isprintable()


@pytest.mark.parametrize(
    "value",
    ["", "gAAAAABother", MARK + "a", MARK + "_w==", MARK + "é", MARK.upper() + "YQ=="],
)
def test_what_was_not_made_here_is_nothing(value: str) -> None:
    assert unseal(value) is None
