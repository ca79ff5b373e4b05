"""A server on another node, as far as its clients can tell: a fake engine over TCP."""

import asyncio
import ssl

from serve.engines.fake import FakeEngine, FakeProtocol, Knobs


class Door(FakeProtocol):
    """Lets in who has the key, and tells others which one they showed."""

    def __init__(self, elsewhere: "Elsewhere") -> None:
        super().__init__(elsewhere.engine)
        self._elsewhere = elsewhere
        self._shown = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._elsewhere.doors.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._elsewhere.doors.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._elsewhere.mute:
            super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._shown = value.decode()

    def on_message_complete(self) -> None:
        key = self._elsewhere.key
        self._elsewhere.asked.append(self._url.decode())
        if key is None or self._shown == f"Bearer {key}":
            super().on_message_complete()
        else:
            self._refuse(401, "AuthenticationError", f"Incorrect API key: {self._shown}")


class Elsewhere:
    """The server. `asked` are the addresses of all requests, `mute` has it read none."""

    def __init__(
        self, model: str = "m", *, tls: ssl.SSLContext | None = None, key: str | None = None
    ) -> None:
        self.engine = FakeEngine(Knobs(model=model, tokens=4))
        self.key = key
        self.mute = False
        self.asked: list[str] = []
        self.doors: set[Door] = set()
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    async def open(self) -> "Elsewhere":
        """Listen: where it has listened before, if it has."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Door(self), "127.0.0.1", self.port, ssl=self._tls, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def shut(self) -> None:
        """Listen no more; what has come in is answered."""
        if self._server is not None:
            self._server.close()

    def die(self) -> None:
        """Listen no more and drop everything."""
        self.shut()
        for door in tuple(self.doors):
            door.close()
