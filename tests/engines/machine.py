"""A machine with memory and engines that exist in virtual time only."""

import asyncio
import heapq
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from serve.core.call import Call, Principal
from serve.core.errors import EngineError
from serve.engines.client import EngineClient
from serve.engines.launch import LaunchPlan
from serve.engines.memory import GIB, HOST, NOTHING, Amounts, Footprint, Need, plus, short_of
from serve.engines.portfolio import Portfolio
from serve.engines.process import Remains
from serve.engines.resident import Resident
from serve.engines.states import Policy
from serve.engines.supervisor import EngineSupervisor
from serve.engines.vitals import Vitals
from serve.settings.model import ModelConfig, ServedModel, Source

POLICY = Policy(start_timeout_s=900, hang_idle_s=2000, hang_loaded_s=6000, progress_every_s=200)
CALL = Call("req_1", "chat.completions", "/", Principal("k"), "m", {}, 1, False, 0.0)


Result = TypeVar("Result")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which time passes only when nothing is left to do."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        if not self._ready:  # type: ignore[attr-defined]
            assert scheduled, "everybody waits for ever"
            self.now_s = max(self.now_s, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class LoopClock:
    """The running loop's time."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        return self.monotonic_s()


def run_virtually(story: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


class Machine:
    """Memory, and the effects of all engines on it."""

    def __init__(self, capacity: Amounts, needs: Mapping[str, Need], load_s: float = 5.0) -> None:
        self.capacity = capacity
        self.needs = dict(needs)
        self.load_s = load_s
        self.held: dict[str, Amounts] = {}
        self.overtaken: list[str] = []
        """Each time that an engine took more than was left: nothing else would fail on it, for a
        supervisor outlives what goes wrong in its effects."""
        self.processes: dict[str, list[Process]] = {}
        self.refuse_start: set[str] = set()
        self.refuse_doze: set[str] = set()

    def take(self, label: str, amounts: Amounts) -> None:
        """Have the engine hold this much from now on."""
        self.held[label] = amounts
        total: Amounts = NOTHING
        for one in self.held.values():
            total = plus(total, one)
        if short_of(total, self.capacity):
            self.overtaken.append(f"{label} takes what is not there: {self.held}")

    def kill(self, label: str) -> None:
        """The engine's process dies."""
        for process in self.processes.get(label, []):
            process.die(-9)

    def spawned(self, label: str) -> int:
        """How often it has been started."""
        return len(self.processes.get(label, []))

    async def spawn(self, plan: LaunchPlan, label: str) -> "Process":
        await asyncio.sleep(0.01)
        process = Process(self, label, asyncio.get_running_loop().time() + self.load_s)
        self.take(label, self.needs[label].awake)
        self.processes.setdefault(label, []).append(process)
        return process

    async def probe(self, client: EngineClient, model: ServedModel) -> None:
        process = self.processes[model.id][-1]
        await asyncio.sleep(max(0.0, process.ready_s - asyncio.get_running_loop().time()))
        if model.id in self.refuse_start:
            process.die(1)
            raise EngineError("no")

    async def pulse(self, client: EngineClient, timeout_s: float) -> tuple[float, ...] | None:
        return None

    async def doze(self, client: EngineClient, level: int) -> None:
        label = label_of(client)
        if label in self.refuse_doze:
            raise EngineError("cannot")
        self.take(label, self.needs[label].turning)
        await asyncio.sleep(1)
        asleep = self.needs[label].asleep
        assert asleep is not None
        self.take(label, asleep)

    async def rouse(self, client: EngineClient, level: int) -> None:
        label = label_of(client)
        self.take(label, self.needs[label].turning)
        await asyncio.sleep(0.5)
        self.take(label, self.needs[label].awake)

    async def pause(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


def label_of(client: EngineClient) -> str:
    """The model's, after which the machine names its sockets."""
    assert isinstance(client.address, Path)
    return client.address.name


class Process:
    """One engine's; SIGTERM ends it after a moment."""

    def __init__(self, machine: Machine, label: str, ready_s: float) -> None:
        self._machine = machine
        self._label = label
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ready_s = ready_s
        self.pid = 100
        self.on_term = lambda: None

    def die(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)

    async def exited(self) -> int:
        return await asyncio.shield(self._code)

    def terminate(self) -> None:
        self.on_term()
        asyncio.get_running_loop().call_later(0.3, self.die, 0)

    def kill(self) -> None:
        self.die(-9)

    async def vitals(self) -> Vitals:
        return Vitals(0.0, frozen=False)

    async def sweep(self) -> Remains:
        await asyncio.sleep(0.1)
        self._machine.held.pop(self._label, None)
        return Remains("boom", ("boom",), 0)


def cpu(gib: float) -> Need:
    """Of an engine on a CPU."""
    return Need({HOST: int(gib * GIB)})


def gpu(gib: float, host_gib: float = 3) -> Need:
    """Of one on a GPU, which can sleep."""
    return Need({"gpu0": int(gib * GIB), HOST: GIB}, {"gpu0": GIB // 2, HOST: int(host_gib * GIB)})


def resident(machine: Machine, name: str, *, waiting_max: int = 64, **placement: Any) -> Resident:
    """One engine on the machine; its need is the machine's."""
    config = ModelConfig(name=name, source=Source(path=Path("none")), context_tokens=128)
    model = ServedModel(config=config, **({"load": "on_demand"} | placement))
    launch = LaunchPlan(("engine",), {}, Path(name), Path(), 900.0)
    clock = LoopClock()
    supervisor = EngineSupervisor(model, launch, machine, clock, 30.0, policy=POLICY)
    return Resident(
        supervisor,
        Footprint(machine.needs[name]),
        waiting_max=waiting_max,
        clock_s=clock.monotonic_s,
    )


def portfolio(machine: Machine, *residents: Resident, **options: Any) -> Portfolio:
    """Their portfolio on the machine's memory."""
    return Portfolio(residents, machine.capacity, LoopClock(), **options)
