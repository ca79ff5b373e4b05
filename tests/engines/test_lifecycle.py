"""The reducer: a table of what happens, and what no order of events can bring about."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engines.events import (
    Attend,
    Doze,
    Effect,
    Event,
    Exited,
    Hung,
    Probe,
    Probed,
    Rouse,
    Send,
    Signal,
    SleepWanted,
    Slept,
    Spawn,
    Spawned,
    SpawnFailed,
    StartWanted,
    StopWanted,
    Sweep,
    Swept,
    Tick,
    Woke,
)
from serve.engines.lifecycle import EXIT_CONFIGURATION, step
from serve.engines.states import Lifecycle, Phase, Policy, State, backoff_s, due_s, ready_in_s

POLICY = Policy(start_timeout_s=900)
NEW = Lifecycle(POLICY)


@dataclass
class Engine:
    """A life with its clock, for tests that tell a story."""

    life: Lifecycle = NEW
    now_s: float = 100.0
    effects: tuple[Effect, ...] = ()
    seen: list[State] = field(default_factory=list)

    def on(self, *events: Event) -> "Engine":
        for event in events:
            self.life, self.effects = step(self.life, event, self.now_s)
            self.seen.append(self.life.state)
        return self

    def later(self, seconds: float) -> "Engine":
        self.now_s += seconds
        return self

    def crash(self, code: int = 1, words: str = "boom") -> "Engine":
        generation = self.life.generation
        return self.on(Exited(generation, code), Swept(generation, words))


def ready() -> Engine:
    return Engine().on(StartWanted(), Spawned(1, 4711), Probed(1, None))


def test_a_start_spawns_and_probes() -> None:
    engine = Engine().on(StartWanted())
    assert engine.effects == (Spawn(1), Probe(1, POLICY.probe_every_s))
    assert engine.life.state is State.STARTING
    assert engine.on(Spawned(1, 4711)).life.pid == 4711


def test_a_refused_probe_is_repeated_and_an_answered_one_makes_ready() -> None:
    engine = Engine().on(StartWanted(), Spawned(1, 4711), Probed(1, "no socket yet"))
    assert engine.effects == (Probe(1, POLICY.probe_every_s),)
    assert engine.life.state is State.STARTING
    engine.later(42).on(Probed(1, None))
    assert engine.life.state is State.READY
    assert engine.life.start_took_s == 42
    assert engine.effects == (Attend(1),)


def test_starting_what_runs_changes_nothing() -> None:
    engine = ready()
    before = engine.life
    assert engine.on(StartWanted()).life == before
    assert engine.effects == ()


def test_remains_are_swept_before_the_next_spawn() -> None:
    engine = ready().on(Exited(1, -9))
    assert engine.effects == (Sweep(1),)
    assert (engine.life.state, engine.life.phase) == (State.STARTING, Phase.REMAINS)
    assert engine.later(10).on(Tick()).effects == ()
    engine.on(Swept(1, "RuntimeError: boom"))
    assert engine.life.last_error == "killed by signal 9: RuntimeError: boom"
    assert engine.life.backoff_until_s == engine.now_s + 1
    assert engine.later(1).on(Tick()).effects[0] == Spawn(2)
    assert engine.life.restarts == 1


def test_no_respawn_before_its_time() -> None:
    engine = ready().crash().later(0.999).on(Tick())
    assert engine.effects == ()
    assert engine.life.phase is Phase.NONE


def test_the_backoff_doubles_up_to_its_bound() -> None:
    assert [backoff_s(POLICY, n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(POLICY, 10**6) == 60


def test_crashes_soon_after_ready_lengthen_the_backoff_but_never_give_up() -> None:
    engine = Engine().on(StartWanted())
    waits = []
    for generation in range(1, 12):
        engine.on(Spawned(generation, 1), Probed(generation, None)).later(5).crash()
        assert engine.life.backoff_until_s is not None
        waits.append(engine.life.backoff_until_s - engine.now_s)
        engine.now_s = engine.life.backoff_until_s
        engine.on(Tick())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


@pytest.mark.parametrize("told", [True, False])
def test_a_healthy_minute_resets_the_backoff(told: bool) -> None:
    engine = ready().crash().later(1).on(Tick(), Spawned(2, 1), Probed(2, None))
    assert due_s(engine.life) == engine.now_s + 60
    engine.later(60)
    if told:
        assert engine.on(Tick()).life.crashes == 0
        assert due_s(engine.life) is None
    assert engine.crash().life.crashes == 1


def test_five_starts_in_a_row_that_fail_are_enough() -> None:
    engine = Engine().on(StartWanted())
    for _ in range(4):
        engine.crash(words="ValueError: no such file")
        assert engine.life.state is State.STARTING
        engine.later(60).on(Tick())
    engine.crash(words="ValueError: no such file")
    assert engine.life.state is State.FAILED
    assert engine.life.last_error is not None
    assert engine.life.last_error.endswith("exit code 1: ValueError: no such file")
    assert engine.life.generation == 5
    assert due_s(engine.life) is None


def test_failed_starts_before_and_after_a_life_are_not_in_a_row() -> None:
    engine = Engine().on(StartWanted())
    for _ in range(4):
        engine.crash().later(60).on(Tick())
    engine.on(Probed(5, None)).crash().later(60).on(Tick())
    for _ in range(4):
        engine.crash().later(60).on(Tick())
        assert engine.life.state is State.STARTING
    assert engine.crash().life.state is State.FAILED


def test_a_failed_engine_is_started_by_hand_with_all_its_attempts() -> None:
    engine = Engine().on(StartWanted()).crash(EXIT_CONFIGURATION).on(StartWanted())
    assert engine.life.state is State.STARTING
    assert (engine.life.attempts, engine.life.last_error) == (0, None)
    assert engine.effects[0] == Spawn(2)


def test_a_configuration_error_is_final_at_once() -> None:
    engine = Engine().on(StartWanted()).crash(EXIT_CONFIGURATION, "vLLM is not installed")
    assert engine.life.state is State.FAILED
    assert engine.life.last_error == "ended by itself with exit code 3: vLLM is not installed"


def test_exit_code_0_unasked_is_a_crash() -> None:
    engine = ready().crash(0, "")
    assert engine.life.last_error == "ended by itself with exit code 0"
    assert engine.life.backoff_until_s is not None


def test_a_process_that_cannot_be_started_counts_as_a_crash() -> None:
    engine = Engine().on(StartWanted(), SpawnFailed(1, "cannot be started: no memory"))
    assert (engine.life.phase, engine.life.attempts) == (Phase.NONE, 1)
    assert engine.life.last_error == "cannot be started: no memory"
    assert engine.life.backoff_until_s is not None


def test_a_late_start_is_killed_and_counts_as_a_crash() -> None:
    engine = Engine().on(StartWanted(), Spawned(1, 1), Probed(1, "no socket"))
    assert due_s(engine.life) == engine.now_s + 900
    engine.later(900).on(Tick())
    assert engine.effects == (Send(1, Signal.KILL),)
    assert engine.on(Probed(1, None)).life.state is State.STARTING, "too late"
    engine.crash(-9, "")
    assert engine.life.last_error == "not ready within 900 s: no socket"
    assert engine.life.attempts == 1


def test_a_stop_asks_then_kills() -> None:
    engine = ready().on(StopWanted(30))
    assert engine.life.state is State.STOPPED
    assert engine.effects == (Send(1, Signal.TERM),)
    assert due_s(engine.life) == engine.now_s + 30
    assert engine.on(StopWanted(30)).effects == (), "told already"
    assert engine.later(30).on(Tick()).effects == (Send(1, Signal.KILL),)
    assert due_s(engine.life) is None
    engine.crash(-9)
    assert (engine.life.state, engine.life.phase) == (State.STOPPED, Phase.NONE)
    assert (engine.life.crashes, engine.life.last_error) == (0, None)


def test_the_more_impatient_stop_counts() -> None:
    engine = ready().on(StopWanted(30), StopWanted(5), StopWanted(60))
    assert due_s(engine.life) == engine.now_s + 5


def test_a_stop_ends_a_backoff() -> None:
    engine = ready().crash().on(StopWanted(30))
    assert (engine.life.state, due_s(engine.life)) == (State.STOPPED, None)
    assert engine.later(60).on(Tick()).effects == ()


def test_a_start_during_a_stop_follows_the_old_process() -> None:
    engine = ready().on(StopWanted(30), StartWanted())
    assert engine.life.state is State.STARTING
    assert engine.effects == ()
    assert engine.on(Exited(1, 0)).effects == (Sweep(1),)
    assert engine.on(Swept(1, "bye")).effects[0] == Spawn(2)
    assert (engine.life.crashes, engine.life.restarts) == (0, 0)


def test_sleep_and_wake() -> None:
    engine = ready().on(SleepWanted())
    assert (engine.life.state, engine.effects) == (State.SLEEPING, (Doze(1),))
    assert engine.on(Slept(1, None)).life.state is State.SLEEPING
    engine.on(StartWanted())
    assert (engine.life.state, engine.effects) == (State.STARTING, (Rouse(1),))
    assert engine.on(Woke(1, None)).effects == (Probe(1, 0.0),)
    assert engine.on(Probed(1, None)).life.state is State.READY


def test_an_engine_wanted_while_it_goes_to_sleep_is_woken_after() -> None:
    engine = ready().on(SleepWanted(), StartWanted())
    assert (engine.life.state, engine.effects) == (State.STARTING, ())
    assert engine.on(Probed(1, None)).life.state is State.STARTING, "it may be asleep by now"
    assert engine.on(Slept(1, None)).effects == (Rouse(1),)


def test_a_refusal_to_sleep_is_proven_by_a_probe() -> None:
    engine = ready().on(SleepWanted(), Slept(1, "404"))
    assert (engine.life.state, engine.effects) == (State.STARTING, (Probe(1, 0.0),))
    assert engine.on(Probed(1, None)).life.state is State.READY


def test_an_engine_that_cannot_be_woken_is_replaced() -> None:
    engine = ready().on(SleepWanted(), Slept(1, None), StartWanted(), Woke(1, "500"))
    assert engine.effects == (Send(1, Signal.KILL),)
    assert engine.crash(-9, "").life.last_error == "could not be woken: 500"


def test_a_hung_engine_is_killed_and_counts_as_a_crash() -> None:
    engine = ready().later(100).on(Hung(1, "hung: idle"))
    assert (engine.life.state, engine.effects) == (State.STARTING, (Send(1, Signal.KILL),))
    assert engine.on(Hung(1, "hung: idle")).effects == (), "killed already"
    engine.crash(-9, "INFO: all is well")
    assert engine.life.last_error == "hung: idle: INFO: all is well"
    assert (engine.life.hangs, engine.life.crashes) == (1, 1)
    assert engine.life.backoff_until_s == engine.now_s + 1


def test_an_engine_that_a_signal_stops_while_it_starts_is_killed() -> None:
    engine = Engine().on(StartWanted(), Spawned(1, 4711))
    engine.on(Probed(1, "no socket yet", POLICY.hang_idle_s - 0.1))
    assert engine.effects == (Probe(1, POLICY.probe_every_s),)
    engine.on(Probed(1, "no socket yet", POLICY.hang_idle_s))
    assert (engine.life.state, engine.effects) == (State.STARTING, (Send(1, Signal.KILL),))
    assert engine.life.hangs == 1
    engine.crash(-9, "")
    assert "stopped by a signal" in (engine.life.last_error or "")


@pytest.mark.parametrize("wish", [StopWanted(30), SleepWanted()])
def test_a_hang_of_an_engine_that_is_no_longer_ready_changes_nothing(wish: Event) -> None:
    engine = ready().on(wish)
    before = engine.life
    assert engine.on(Hung(1, "hung")).life == before
    assert engine.effects == ()


def test_survivors_are_fatal() -> None:
    engine = ready().on(Exited(1, -9), Swept(1, "", survivors=2))
    assert engine.life.state is State.FAILED
    assert engine.life.last_error is not None
    assert engine.life.last_error.startswith("2 of its processes survive SIGKILL")


def test_retry_after_is_what_the_last_start_took() -> None:
    engine = Engine().on(StartWanted(), Spawned(1, 1)).later(40).on(Probed(1, None))
    engine.later(100).crash().later(0.5)
    assert ready_in_s(engine.life, engine.now_s) == 40.5
    engine.later(0.5).on(Tick()).later(30)
    assert ready_in_s(engine.life, engine.now_s) == 15, "half of the time run beats 10 s left"
    assert ready_in_s(engine.life, engine.now_s + 10_000) == 300, "bounded"


def test_retry_after_of_a_first_start_grows_with_it() -> None:
    engine = Engine().on(StartWanted())
    assert ready_in_s(engine.life, engine.now_s) == 5
    assert ready_in_s(engine.life, engine.now_s + 60) == 30


# Properties

NOW = 0
"""Stands for the generation of the present process in a generated report."""

WANTS: list[Event] = [StartWanted(), StopWanted(0), StopWanted(30), SleepWanted(), Tick()]
OF_THE_LIVING: list[Event] = [
    *(Probed(NOW, error) for error in (None, None, "refused")),
    *(Exited(NOW, code) for code in (-9, 0, 1, EXIT_CONFIGURATION)),
    *(Slept(NOW, error) for error in (None, None, "refused")),
    *(Woke(NOW, error) for error in (None, None, "refused")),
    Hung(NOW, "hung"),
    Spawned(NOW, 4711),
    SpawnFailed(NOW, "no"),
]
OF_THE_DEAD: list[Event] = [*[Swept(NOW, "boom")] * 7, Swept(NOW, "", survivors=1)]
LIKELY: dict[Phase, list[Event]] = {
    Phase.NONE: [StartWanted(), StartWanted(), Tick()],
    Phase.LIVING: [*OF_THE_LIVING, SleepWanted(), SleepWanted(), StartWanted(), StartWanted()],
    Phase.REMAINS: OF_THE_DEAD,
}
delays = st.sampled_from([0.0, 0.1, 1.0, 70.0, 1000.0])
choices = st.integers(0, 2**16)
stories = st.lists(st.tuples(delays, st.booleans(), choices), max_size=50)
Story = list[tuple[float, bool, int]]


def chosen(life: Lifecycle, likely: bool, choice: int) -> Event:
    """Half of all events are such as the present phase brings, half are any."""
    menu = LIKELY[life.phase] if likely else [*WANTS, *OF_THE_LIVING, *OF_THE_DEAD]
    event = menu[choice % len(menu)]
    return replace(event, generation=life.generation) if hasattr(event, "generation") else event


def told(story: Story, visit: Callable[[Lifecycle], object] = id) -> "World":
    world = World()
    for delay_s, likely, choice in story:
        world.now_s += delay_s
        world.feed(chosen(world.life, likely, choice))
        visit(world.life)
    return world


@dataclass
class World:
    """What must hold between any two events, whoever sent them."""

    life: Lifecycle = NEW
    now_s: float = 0.0
    alive: int | None = None
    probes: int = 0
    proven: int = 0

    def feed(self, event: Event) -> None:
        before, (self.life, effects) = self.life, step(self.life, event, self.now_s)
        self._note_end(before, event)
        for effect in effects:
            self._note(effect, before)
        self._check_states(before, event)
        self._check_times(before, event)

    def _note_end(self, before: Lifecycle, event: Event) -> None:
        current = getattr(event, "generation", None) == before.generation
        stillborn = isinstance(event, SpawnFailed) and before.phase is Phase.LIVING
        if current and (stillborn or (isinstance(event, Swept) and before.phase is Phase.REMAINS)):
            self.alive = None
        if current and isinstance(event, Probed):
            self.probes = max(0, self.probes - 1)

    def _note(self, effect: Effect, before: Lifecycle) -> None:
        if isinstance(effect, Spawn):
            assert self.alive is None, "two processes at once"
            assert effect.generation == before.generation + 1
            self.alive = effect.generation
            self.probes = 0
        else:
            assert effect.generation == self.life.generation
            assert self.alive == effect.generation, "an effect on a process that is not there"
        if isinstance(effect, Probe):
            self.probes += 1

    def _check_states(self, before: Lifecycle, event: Event) -> None:
        life = self.life
        assert (life.phase is Phase.NONE) == (self.alive is None)
        if life.state in (State.READY, State.SLEEPING):
            assert life.phase is Phase.LIVING
            assert not life.leaving
        assert not (life.state is State.READY and life.turning), "ready while it wakes"
        if life.state is State.READY and before.state is not State.READY:
            assert event == Probed(life.generation, None), "ready without a proof"
        if life.state is State.FAILED:
            assert life.phase is Phase.NONE
            assert life.last_error
        if life.state is State.STOPPED:
            assert life.backoff_until_s is None
            assert life.phase is before.phase or life.phase is not Phase.LIVING
        assert life.attempts <= POLICY.restarts_max
        assert (life.attempts == POLICY.restarts_max) <= (life.state is State.FAILED)

    def _check_times(self, before: Lifecycle, event: Event) -> None:
        life = self.life
        if before.phase is Phase.REMAINS and life.backoff_until_s is not None:
            assert life.crashes == before.crashes + 1
            assert life.backoff_until_s - self.now_s == pytest.approx(
                backoff_s(POLICY, life.crashes)
            )
        if isinstance(event, Tick) and (due := due_s(life)) is not None:
            assert due > self.now_s, "a tick that would have to come again at once"
        waits = life.state is State.STARTING and life.phase is not Phase.REMAINS
        condemned = life.leaving and life.kill_at_s is None
        assert not waits or condemned or due_s(life) is not None, "waits for nothing"
        assert 1 <= ready_in_s(life, self.now_s) <= 300


@settings(derandomize=True, deadline=None, max_examples=300)
@given(stories)
def test_any_order_of_any_events_keeps_the_invariants(story: Story) -> None:
    assert told(story).life.generation <= len(story)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(stories, st.sampled_from(OF_THE_LIVING + OF_THE_DEAD), st.integers(1, 5))
def test_an_earlier_process_changes_nothing(story: Story, late: Event, age: int) -> None:
    world = told(story)
    stale = replace(late, generation=world.life.generation - age)
    assert step(world.life, stale, world.now_s) == (world.life, ())


@settings(derandomize=True, deadline=None, max_examples=100)
@given(stories)
def test_whatever_came_before_a_stop_ends_and_a_start_is_answered(
    story: Story,
) -> None:
    world = told(story)
    world.feed(StopWanted(0))
    if world.life.phase is Phase.LIVING:
        world.feed(Exited(world.life.generation, -9))
    if world.life.phase is Phase.REMAINS:
        world.feed(Swept(world.life.generation, ""))
    assert (world.life.state, world.life.phase) == (State.STOPPED, Phase.NONE)
    world.feed(StartWanted())
    world.feed(Probed(world.life.generation, None))
    assert world.life.state is State.READY


def test_the_stories_reach_every_state() -> None:
    reached: set[tuple[State, Phase]] = set()

    @settings(derandomize=True, deadline=None, max_examples=200, database=None)
    @given(stories)
    def tell(story: Story) -> None:
        told(story, lambda life: reached.add((life.state, life.phase)))

    tell()
    assert reached == {
        *((State.STOPPED, phase) for phase in Phase),
        *((State.STARTING, phase) for phase in Phase),
        (State.READY, Phase.LIVING),
        (State.SLEEPING, Phase.LIVING),
        (State.FAILED, Phase.NONE),
    }
