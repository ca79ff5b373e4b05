"""What one WebSocket connection remembers: the unstored response that its next turn may go on from.

A turn with `store: false` can so be gone on from for as long as the connection lasts (OpenAI's
guide to the WebSocket mode). Stored ones are read from the store, where they can be deleted.
"""

from typing import Any, Final

from serve.core.errors import InvalidRequest
from serve.respond.asked import Asked
from serve.respond.turn import Turn

JSON = dict[str, Any]

_WHOLE: Final = ("completed", "incomplete")


class Session:
    """The newest unstored response of one connection."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._items: tuple[JSON, ...] = ()

    def before(self, asked: Asked) -> tuple[JSON, ...] | None:
        """The items before this turn's, where the connection has them.

        Raises InvalidRequest for a turn that is to be stored after one that is not: the chain
        would have no beginning once the connection is gone.
        """
        if self._id is None or asked.previous_response_id != self._id:
            return None
        if asked.store:
            raise InvalidRequest(
                "The previous response is not stored, so this one cannot be; send `store: false`.",
                param="store",
            )
        return self._items

    def ended(self, turn: Turn, final: JSON) -> None:
        """Remember a turn that ended well; one that failed takes along what it went on from."""
        if final["status"] not in _WHOLE:
            self.failed(turn.asked)
        elif not turn.asked.store:
            self._id = final["id"]
            self._items = (*turn.history, *turn.items, *final["output"])

    def failed(self, asked: Asked) -> None:
        """What this turn went on from cannot be gone on from again."""
        if self._id is not None and asked.previous_response_id == self._id:
            self._id, self._items = None, ()
