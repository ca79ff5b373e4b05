"""Looks at a ready engine again and again until it hangs; `serve.engines.progress` judges."""

import asyncio

from serve.core.clock import Clock
from serve.core.errors import EngineError
from serve.engines.client import EngineClient
from serve.engines.process import EngineEffects, EngineProcess
from serve.engines.progress import Bounds, Signs, Watch, hang, look, wants_probe, wants_pulse
from serve.settings.model import ServedModel


class Vigil:
    """One process, watched while it is ready. Cancel `until_hung` when it no longer is."""

    def __init__(
        self,
        process: EngineProcess,
        client: EngineClient,
        model: ServedModel,
        effects: EngineEffects,
        clock: Clock,
        bounds: Bounds,
    ) -> None:
        self._process = process
        self._client = client
        self._model = model
        self._effects = effects
        self._clock = clock
        self._bounds = bounds
        self._probes = 0
        self._probe: asyncio.Task[None] | None = None
        self._probe_took_s = 0.0
        self._refusal = ""

    async def until_hung(self) -> str:
        """Return why the engine is taken to hang, if ever."""
        try:
            return await self._watch()
        finally:
            if self._probe is not None:
                self._probe.cancel()
                await asyncio.wait({self._probe})

    async def _watch(self) -> str:
        watch = Watch(await self._signs(pulse=False))
        while True:
            await self._effects.pause(self._bounds.every_s)
            if self._probe is not None and self._probe.done():
                self._probe.result()  # it ends by itself only by a bug
            watch = look(watch, await self._signs(pulse=wants_pulse(watch)), self._bounds)
            if (reason := hang(watch, self._bounds)) is not None:
                return f"{reason} ({self._refusal})" if self._refusal else reason
            if wants_probe(watch, self._bounds):
                self._probe = asyncio.create_task(self._ask())

    async def _signs(self, *, pulse: bool) -> Signs:
        found = await self._effects.pulse(self._client, self._bounds.every_s) if pulse else None
        vitals = await self._process.vitals()
        out = self._probe is not None
        return Signs(
            at_s=self._clock.monotonic_s(),
            received=self._client.received,
            waiting=max(0, self._client.waiting - out),
            probes=self._probes,
            probe_out=out,
            probe_took_s=self._probe_took_s,
            pulse=found,
            cpu_s=vitals.cpu_s,
            frozen=vitals.frozen,
        )

    async def _ask(self) -> None:
        """Ask for one token until one comes: a refusal proves nothing, and is told in the end."""
        begun_s = self._clock.monotonic_s()
        while True:
            try:
                await self._effects.probe(self._client, self._model)
            except EngineError as refused:
                self._refusal = refused.message
                await self._effects.pause(self._bounds.every_s)
                continue
            self._probes += 1
            self._probe_took_s = self._clock.monotonic_s() - begun_s
            self._refusal = ""
            self._probe = None
            return
