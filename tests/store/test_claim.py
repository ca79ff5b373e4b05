from pathlib import Path

import pytest

from serve.core.errors import SetupError
from serve.store.claim import claimed


def test_a_file_is_one_holders_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    first = claimed(path, "somebody has it")
    with pytest.raises(SetupError, match="somebody has it"):
        claimed(path, "somebody has it")
    first.close()
    with claimed(path, "somebody has it") as second:
        second.seek(0)
        assert second.read() == b"kept"
