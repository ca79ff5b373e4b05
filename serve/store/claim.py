"""Files that one process has to itself."""

import fcntl
from pathlib import Path
from typing import IO

from serve.core.errors import SetupError


def claimed(path: Path, refusal: str) -> IO[bytes]:
    """Take a file, made where it is not there, until what is returned is closed.

    Raises OSError, and SetupError with these words where another process has it.
    """
    file = path.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SetupError(refusal) from None
    return file
