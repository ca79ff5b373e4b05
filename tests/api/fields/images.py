"""Images for tests."""

import base64
import struct
import zlib


def png(width: int, height: int) -> bytes:
    """A black image; one that says it is large holds no pixels."""
    rows = (b"\0" * (1 + 3 * width)) * height if 0 < width * height < 2**16 else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def data_url(data: bytes, kind: str = "image/png") -> str:
    """What a client sends."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
