"""Addresses in settings: what of them is there, or that they are none."""

import pytest

from serve.settings import urls


@pytest.mark.parametrize(
    "url",
    ["https://", "http://:80", "http://a:0", "http://a:99999", "http://[::1", "http://a..b", "x"],
)
def test_an_address_without_a_host_or_with_a_bad_port_is_none(url: str) -> None:
    assert urls.split(url) is None


def test_an_address_is_told_in_parts() -> None:
    parts = urls.split("https://node-2:8443/models")
    assert parts is not None
    assert (parts.scheme, parts.hostname, parts.port) == ("https", "node-2", 8443)
    assert parts.path == "/models"
