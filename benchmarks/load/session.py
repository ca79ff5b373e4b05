"""Runs and sweeps from the command line: interrupted with Ctrl-C they keep what they found."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.load.conduct import Conditions, conduct
from benchmarks.load.openloop import OpenLoop
from benchmarks.load.result import Result, save
from benchmarks.load.sweep import Ending, Rate, Search, Sweep, sweep
from benchmarks.load.target import Target
from benchmarks.load.workload import Workload
from serve.core.errors import SettingsError


class Interrupt:
    """Whether SIGINT or SIGTERM came; the loop that runs is stopped by it."""

    def __init__(self) -> None:
        self.came = False
        self._loop: OpenLoop | None = None

    def watch(self, loop: OpenLoop) -> None:
        """Stop this loop too when one comes."""
        self._loop = loop
        if self.came:
            loop.stop()

    def _on_signal(self) -> None:
        self.came = True
        if self._loop is not None:
            self._loop.stop()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals for as long as this lasts."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def run_to(file: Path, target: Target, what: Workload, conditions: Conditions) -> Result:
    """One run, written to a file."""
    interrupt = Interrupt()
    with interrupt.listening():
        result = await conduct(target, what, conditions, interrupt.watch)
    save(file, result)
    return result


async def sweep_to(
    file: Path, target: Target, what: Workload, conditions: Conditions, search: Search,
    say: Callable[[Rate], None],
) -> Sweep:  # fmt: skip
    """A search, written to a file after each rate. Raises SettingsError without an objective."""
    objective = conditions.objective
    if objective is None:
        raise SettingsError("a sweep needs a service level: --slo, or --ttft-ms and --tpot-ms")
    interrupt = Interrupt()
    salt = conditions.salt or what.heading.salt

    async def run_at(rate_per_s: float, repeat: int) -> Result:
        # Each run asks with a salt of its own: none finds its prompts cached by one before.
        changed = replace(
            conditions, rate_per_s=rate_per_s, salt=f"{salt}-{rate_per_s:.4g}-{repeat}"
        )
        return await conduct(target, what, changed, interrupt.watch)

    def document(ending: Ending, rates: list[Rate], runs: list[Result]) -> Sweep:
        held = [one.rate_per_s for one in rates if one.held]
        failed = [one.rate_per_s for one in rates if not one.held]
        return Sweep(
            objective=objective, url=target.url, model=target.model, workload=what.heading.name,
            workload_sha256=what.heading.sha256, ending=ending,
            highest_held_per_s=max(held, default=None),
            lowest_failed_per_s=min(failed, default=None), rates=tuple(rates), runs=tuple(runs),
        )  # fmt: skip

    def keep(rates: list[Rate], runs: list[Result]) -> None:
        say(rates[-1])
        save(file, document("stopped", rates, runs))

    with interrupt.listening():
        found = await sweep(search, run_at, keep, lambda: interrupt.came)
    made = document(*found)
    save(file, made)
    return made
