"""The judge of progress: what is a hang, and what only looks like one."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from serve.engines import progress
from serve.engines.progress import (
    Bounds,
    Signs,
    Watch,
    bounds_of,
    hang,
    look,
    wants_probe,
    wants_pulse,
)
from serve.engines.states import Policy

BOUNDS = Bounds()


@dataclass
class Engine:
    """A core in a world of its own time, with the truth about whether it makes steps.

    `hung_at_s` is when it stops for good. A `long_step` is one that moves nothing until it ends.
    """

    cpu: bool = True
    waiting: int = 0
    streaming: bool = True
    computing: bool = True
    frozen: bool = False
    hung: bool = False
    long_step_until_s: float = 0.0
    reading: bool = True
    """The clients read what comes; else answers wait in buffers, and nothing arrives."""
    token_s: float = 0.02
    now_s: float = 0.0
    received: int = 0
    pulse: float = 0.0
    cpu_s: float = 0.0
    probes: int = 0
    probe_sent_s: float | None = None

    @property
    def steps(self) -> bool:
        return not self.hung and not self.frozen and self.now_s >= self.long_step_until_s

    def live(self, seconds: float) -> None:
        self.now_s += seconds
        busy = self.waiting or self.hung or self.now_s < self.long_step_until_s
        if self.computing and busy and not self.frozen:
            self.cpu_s += seconds
        if not self.steps:
            return
        if self.waiting:
            self.pulse += 1
            if self.reading and self.streaming:
                self.received += 1
        if self.probe_sent_s is not None and self.now_s - self.probe_sent_s >= self.token_s:
            self.probe_sent_s = None
            self.probes += 1

    def signs(self, *, pulse: bool) -> Signs:
        return Signs(
            at_s=self.now_s,
            received=self.received,
            waiting=self.waiting,
            probes=self.probes,
            probe_out=self.probe_sent_s is not None,
            probe_took_s=self.token_s,
            pulse=(self.pulse,) if pulse else None,
            cpu_s=self.cpu_s,
            frozen=self.frozen,
        )


def watched(engine: Engine, seconds: float, bounds: Bounds = BOUNDS) -> tuple[float, str] | None:
    """Look every second; when a hang was found, and its reason."""
    watch = Watch(engine.signs(pulse=False))
    for _ in range(int(seconds / bounds.every_s)):
        engine.live(bounds.every_s)
        watch = look(watch, engine.signs(pulse=wants_pulse(watch)), bounds)
        if (reason := hang(watch, bounds)) is not None:
            return engine.now_s, reason
        if wants_probe(watch, bounds):
            engine.probe_sent_s = engine.now_s
    return None


def test_an_idle_engine_is_left_alone_and_seldom_asked() -> None:
    engine = Engine(computing=False)
    assert watched(engine, 600) is None
    assert 600 / 10 < engine.probes < 600 / 4


def test_probes_of_a_slow_engine_take_no_more_than_their_share() -> None:
    engine = Engine(token_s=1.0)
    assert watched(engine, 1000) is None
    assert engine.probes * engine.token_s <= 1000 * progress.PROBE_COST_MAX


def test_a_stream_under_way_costs_neither_probes_nor_metrics() -> None:
    engine = Engine(waiting=1)
    watch = Watch(engine.signs(pulse=False))
    silent = look(watch, replace(engine.signs(pulse=False), at_s=1.0), BOUNDS)
    assert wants_pulse(silent)
    engine.live(1)
    assert not wants_pulse(look(watch, engine.signs(pulse=False), BOUNDS))
    assert watched(engine, 100) is None
    assert engine.probes == 0


@pytest.mark.parametrize("frozen", [True, False], ids=["SIGSTOP", "deadlock"])
@pytest.mark.parametrize("waiting", [0, 8])
def test_a_hang_is_found_in_time(frozen: bool, waiting: int) -> None:
    engine = Engine(waiting=waiting, computing=False)
    assert watched(engine, 60) is None
    begun_s = engine.now_s
    engine.frozen, engine.hung = frozen, not frozen
    found = watched(engine, 100)
    assert found is not None
    assert found[0] - begun_s <= (BOUNDS.loaded_s if waiting else BOUNDS.idle_s)
    assert ("stopped by a signal" in found[1]) == frozen


def test_a_long_prompt_in_chunks_is_no_hang() -> None:
    engine = Engine(waiting=1, streaming=False, computing=False)
    assert watched(engine, 300) is None


def test_a_long_step_that_computes_is_no_hang_on_a_cpu() -> None:
    engine = Engine(waiting=1, long_step_until_s=120)
    assert watched(engine, 200) is None


def test_a_step_that_computes_without_end_is_one() -> None:
    found = watched(Engine(waiting=1, hung=True), 1000)
    assert found is not None
    assert found[0] == pytest.approx(progress.COMPUTING_FACTOR * BOUNDS.loaded_s, abs=2)
    assert "computing" in found[1]


def test_a_process_that_spins_on_a_gpu_proves_nothing() -> None:
    found = watched(Engine(waiting=1, hung=True), 1000, replace(BOUNDS, counts_cpu=False))
    assert found is not None
    assert found[0] <= BOUNDS.loaded_s


def test_readers_that_read_nothing_are_no_hang() -> None:
    engine = Engine(waiting=3, reading=False, computing=False)
    engine.pulse = 7.0
    watch = Watch(engine.signs(pulse=False))
    for _ in range(200):
        engine.live(1)
        signs = replace(engine.signs(pulse=False), pulse=(7.0,))  # all is generated already
        watch = look(watch, signs, BOUNDS)
        assert hang(watch, BOUNDS) is None
        if wants_probe(watch, BOUNDS):
            engine.probe_sent_s = engine.now_s


def test_requests_that_come_and_go_do_not_hide_a_hang() -> None:
    engine = Engine(hung=True, computing=False)
    watch = Watch(engine.signs(pulse=False))
    while hang(watch, BOUNDS) is None:
        engine.live(1)
        engine.waiting = int(engine.now_s / 3) % 2
        watch = look(watch, engine.signs(pulse=wants_pulse(watch)), BOUNDS)
        if wants_probe(watch, BOUNDS):
            engine.probe_sent_s = engine.now_s
    assert engine.now_s <= BOUNDS.loaded_s


def test_time_that_nobody_saw_is_no_silence() -> None:
    engine = Engine(waiting=1)
    watch = look(Watch(engine.signs(pulse=False)), engine.signs(pulse=False), BOUNDS)
    late = replace(engine.signs(pulse=False), at_s=3600.0, cpu_s=None)
    found = look(watch, late, BOUNDS)
    assert found.silent_s == progress.GAP_LOOKS_MAX * BOUNDS.every_s


def test_a_pulse_from_before_a_silence_proves_nothing_in_it() -> None:
    engine = Engine(waiting=1)
    quiet = engine.signs(pulse=False)
    watch = look(Watch(quiet), replace(quiet, at_s=1.0, pulse=(1.0,)), BOUNDS)
    watch = look(watch, replace(quiet, at_s=2.0, received=1), BOUNDS)
    watch = look(watch, replace(quiet, at_s=3.0, received=1, pulse=(2.0,)), BOUNDS)
    assert watch.silent_s == 1.0


def test_there_are_five_looks_before_a_verdict() -> None:
    policy = Policy(start_timeout_s=1, hang_idle_s=10, hang_loaded_s=5, progress_every_s=60)
    assert bounds_of(policy, counts_cpu=False) == Bounds(10, 5, 1, counts_cpu=False)


# Seeded lives


def life(seed: int, bounds: Bounds) -> str | None:
    """A random life with one hang in it, or none; what was judged wrongly, if anything."""
    dice = random.Random(seed)
    engine = Engine(token_s=dice.choice([0.01, 0.05, 0.15]))
    hang_at_s = dice.choice([None, dice.uniform(20, 300)])
    kind = dice.choice(["frozen", "dead", "spinning"])
    watch = Watch(engine.signs(pulse=False))
    loaded_since_s = 0.0
    for _ in range(400):
        if dice.random() < 0.1:
            engine.waiting = dice.choice([0, 0, 1, 8])
            engine.streaming, engine.reading = dice.random() < 0.5, dice.random() < 0.8
            engine.computing = bounds.counts_cpu
            if engine.waiting and hang_at_s is None and dice.random() < 0.3:
                longest_s = 60 if bounds.counts_cpu else 5
                engine.long_step_until_s = engine.now_s + dice.uniform(1, longest_s)
        if hang_at_s is not None and engine.now_s >= hang_at_s:
            engine.hung = True
            engine.frozen = kind == "frozen"
            engine.computing = kind == "spinning"
        engine.live(bounds.every_s * dice.uniform(1, 1.5))
        watch = look(watch, engine.signs(pulse=wants_pulse(watch)), bounds)
        loaded_since_s = loaded_since_s if engine.waiting else engine.now_s
        if hang(watch, bounds) is not None:
            return None if engine.hung else f"killed in its life at {engine.now_s:.0f} s"
        if engine.hung and hang_at_s is not None:
            due_s = bounds.loaded_s
            if kind == "spinning" and bounds.counts_cpu:
                due_s = progress.COMPUTING_FACTOR * bounds.loaded_s
            if engine.now_s > hang_at_s + due_s + 1.5 * bounds.every_s:
                return f"a {kind} hang at {hang_at_s:.0f} s is not found at {engine.now_s:.0f} s"
        if wants_probe(watch, bounds):
            engine.probe_sent_s = engine.now_s
    return None


def wrong(bounds: Bounds = BOUNDS) -> Iterator[str]:
    for seed in range(300):
        if (fault := life(seed, bounds)) is not None:
            yield f"seed {seed}: {fault}"


@pytest.mark.parametrize("counts_cpu", [True, False], ids=["cpu", "gpu"])
def test_no_life_is_ended_and_no_hang_survives(counts_cpu: bool) -> None:
    assert list(wrong(replace(BOUNDS, counts_cpu=counts_cpu))) == []


def _health_is_believed(before: Watch, signs: Signs) -> bool:
    return True


def _bytes_alone(before: Watch, signs: Signs) -> bool:
    return signs.received != before.last.received


def _cpu_is_no_sign(last: Signs, signs: Signs, passed_s: float, bounds: Bounds) -> bool:
    return False


def _cpu_proves_all(last: Signs, signs: Signs, passed_s: float, bounds: Bounds) -> bool:
    return True


@pytest.mark.parametrize(
    ("place", "bug", "shows"),
    [
        ("_proven", _health_is_believed, "not found"),
        ("_proven", _bytes_alone, "killed"),
        ("PROBE_COST_MAX", 1e-9, "not found"),
        ("_computes", _cpu_is_no_sign, "killed"),
        ("_computes", _cpu_proves_all, "not found"),
    ],
)
def test_the_lives_find_a_judge_that_errs(
    place: str, bug: object, shows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, place, bug)
    assert any(shows in fault for fault in wrong())
