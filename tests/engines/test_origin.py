"""Where a server elsewhere is, and what it is shown."""

from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.engines.origin import key_of, origin_of, tls_of
from serve.settings.remote import Remote

KEY = "sk-very-secret"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"engine\.ca_file: .*ca\.pem holds no certificates"):
        tls_of(Remote(url="https://node-2", ca_file=file))


@pytest.mark.parametrize(
    "content", ["", "  \n", "two words", "two\nlines", "schlüssel", "k" * 5000]
)
def test_a_key_file_holds_one_key(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(SettingsError) as refused:
        key_of(Remote(url="https://node-2", key_file=file))
    assert refused.value.message == f"engine.key_file: {file} must hold one key and nothing else"


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^engine\.key_file: .*No such file"):
        key_of(Remote(url="https://node-2", key_file=tmp_path / "key"))


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix"),
    [
        ("http://node-2", "node-2", 80, ""),
        ("https://node-2/models/a/", "node-2", 443, "/models/a"),
        ("https://[::1]:8443", "::1", 8443, ""),
    ],
)
def test_where_it_is_reached(url: str, host: str, port: int, prefix: str) -> None:
    origin = origin_of(Remote(url=url), None, KEY)
    assert (origin.host, origin.port, origin.prefix) == (host, port, prefix)
    assert origin.authority == url.split("/")[2]
    assert origin.headers == (("authorization", f"Bearer {KEY}"),)
