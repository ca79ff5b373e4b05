"""What is cut, and what costs nothing where it is not used."""

import subprocess
import sys

from serve.toolservers.records import cut


def test_a_cut_never_halves_a_letter() -> None:
    data = "ä".encode() * 10
    assert cut(data, 20) == "ä" * 10
    assert cut(data, 19, 20) == (
        "ä" * 9 + "\n[cut here: the result is 20 bytes, of which this server passes on 19]"
    )
    assert "the result is more, of which" in cut(data, 5)
    assert cut(b"\xff\xfe", 10) == "\ufffd\ufffd"


def test_a_site_without_tool_servers_loads_none_of_their_clients() -> None:
    order = "import serve.app, sys; print(sorted({'mcp', 'httpx2'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", order], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
