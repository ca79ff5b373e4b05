"""Inhouse without what knows and accounts for its tenants, for `benchmarks/metering.py` alone.

`python -m benchmarks.unmetered dev …` is `inhouse dev …` with authentication, admission, metering
and the ledger taken out of a request's way: what is left of it is the same code.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from serve.admission.authenticate import ANYONE, Authenticator
from serve.cli import main
from serve.core.call import Call, Principal, Timeline
from serve.metering.meter import Meter
from serve.pipeline import Pipeline, run
from serve.served import Served


class Unmetered:
    """In the place of the pipeline's own: admits, and keeps nothing."""

    waits = False

    def __init__(self, of: Pipeline, served: Served, call: Call) -> None:
        del of, served
        self._call = call

    def __enter__(self) -> Timeline:
        return Timeline(self._call.model_id, self._call.received_s, self._call.received_s)

    def __exit__(self, *_: object) -> None:
        return

    async def turn(self) -> None:
        return

    def body(self, served: Served, call: Call) -> bytes:
        del served
        return orjson.dumps(call.body)


def anyone(self: Authenticator, headers: Iterable[tuple[bytes, bytes]], *_: Any) -> Principal:
    del self, headers
    return ANYONE


def nothing(self: Meter, timeline: Timeline) -> None:
    del self, timeline


def strip() -> None:
    """Take the stages out of this process."""
    setattr(run, "Passage", Unmetered)  # noqa: B010 - another type, on purpose
    setattr(Authenticator, "authenticate", anyone)  # noqa: B010 - as above
    setattr(Meter, "tokens", nothing)  # noqa: B010 - as above


if __name__ == "__main__":
    strip()
    main()
