"""What the engines of a model can have in hand at once: requests, and tokens in their KV caches."""

import logging
import re
from typing import Final

from serve.core.errors import EngineError
from serve.engines.backend import Backend
from serve.engines.client import EngineClient
from serve.engines.ensemble import parts_of
from serve.engines.jobs import Jobs
from serve.engines.launch import PRIORITY_POLICY, spare_of
from serve.engines.resident import Resident
from serve.settings.model import ServedModel

log = logging.getLogger("inhouse.engine")

STREAMS_UNKNOWN: Final = 256
"""What an engine is given at once of which nobody has said how much it can take."""
SPARE_UNKNOWN: Final = 16
"""Of the streams of such an engine one in so many is kept, and at most so many."""
ASK_TIMEOUT_S: Final = 5.0

_CACHE: Final = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def streams_of(model: ServedModel, backend: Backend) -> tuple[int, int]:
    """Requests that the engines of a model work on at once, all together, and how many of them
    are for tenants with less than their share."""
    total = spare = 0
    for part in parts_of(backend).values():
        own = part.supervisor.streams if isinstance(part, Resident) else None
        if own is not None:
            total += own + spare_of(own)
            spare += spare_of(own)
        else:
            streams = model.config.max_streams or STREAMS_UNKNOWN
            total += streams
            spare += min(SPARE_UNKNOWN, streams // SPARE_UNKNOWN)
    return total, spare


def takes_priority(model: ServedModel) -> bool:
    """Whether its engines were started to look at a request's priority."""
    config = model.config
    policy = config.engine_args.get("scheduling-policy", PRIORITY_POLICY)
    return model.engine is None and config.task == "generate" and policy == PRIORITY_POLICY


def cache_tokens(page: str) -> int | None:
    """Tokens that the KV caches of one engine hold, from its metrics; None where it does not say.

    Where an engine has several cores each has a cache and a line of its own.
    """
    found = 0
    for line in _CACHE.findall(page):
        labels = dict(_LABEL.findall(line))
        size = labels.get("kv_cache_size_tokens", "")
        if size.isdigit():
            found += int(size)
        elif labels.get("num_gpu_blocks", "").isdigit() and labels.get("block_size", "").isdigit():
            found += int(labels["num_gpu_blocks"]) * int(labels["block_size"])
    return found or None


class CacheSizes:
    """The size of each engine's KV cache, asked of it once."""

    def __init__(self) -> None:
        self._known: dict[EngineClient, int | None] = {}
        self._jobs = Jobs(self._failed)

    def of(self, backend: Backend) -> int | None:
        """All engines together that answer now; None unless each of them is known."""
        total = 0
        for part in parts_of(backend).values():
            client = part.client
            if client is None:
                continue
            if client not in self._known:
                self._known = {one: size for one, size in self._known.items() if not one.closed}
                self._known[client] = None
                self._jobs.start(self._ask(client))
            size = self._known[client]
            if size is None:
                return None
            total += size
        return total or None

    async def _ask(self, client: EngineClient) -> None:
        try:
            status, page = await client.get("/metrics", ASK_TIMEOUT_S)
        except (EngineError, TimeoutError):
            return  # it is bounded by requests alone
        if status == 200:
            self._known[client] = cache_tokens(page.decode(errors="replace"))

    def _failed(self, error: Exception) -> None:
        log.error("the size of an engine's cache is not known", exc_info=error)
