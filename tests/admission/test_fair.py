"""Whose request is next, over thousands of made-up crowds."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from serve.admission.fair import FLOWS_SPARE, Entry, FairQueue

T = TypeVar("T")
COST = st.floats(1, 1000)
WEIGHT = st.sampled_from([0.25, 1.0, 2.0, 7.0])

Crowd = list[tuple[float, list[float]]]
CROWD = st.lists(st.tuples(WEIGHT, st.lists(COST, min_size=1, max_size=40)), min_size=2, max_size=6)


def filled(crowd: Crowd) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for flow, (weight, costs) in enumerate(crowd):
        for number, cost in enumerate(costs):
            queue.push(flow, weight, cost, number)
    return queue


def drained(queue: FairQueue[T]) -> list[Entry[T]]:
    found = []
    while (entry := queue.pop()) is not None:
        found.append(entry)
    return found


@given(CROWD)
def test_all_are_taken_and_each_flow_in_its_order(crowd: Crowd) -> None:
    queue = filled(crowd)
    taken = drained(queue)
    by_flow: dict[object, list[int]] = defaultdict(list)
    for entry in taken:
        by_flow[entry.flow].append(entry.item)
    assert by_flow == {flow: list(range(len(costs))) for flow, (_, costs) in enumerate(crowd)}
    assert (len(queue), round(queue.tokens, 6)) == (0, 0)


@given(CROWD)
def test_flows_that_wait_get_tokens_by_their_weights(crowd: Crowd) -> None:
    """While two flows both wait, what they got differs by a request of each, never by more."""
    queue = filled(crowd)
    got = dict.fromkeys(range(len(crowd)), 0.0)
    left = {flow: len(costs) for flow, (_, costs) in enumerate(crowd)}
    for entry in drained(queue):
        waiting = [flow for flow in left if left[flow]]
        flow = int(str(entry.flow))
        got[flow] += entry.cost
        left[flow] -= 1
        for one in waiting:
            for other in waiting:
                (weight, costs), (other_weight, others) = crowd[one], crowd[other]
                apart = got[one] / weight - got[other] / other_weight
                assert apart <= max(costs) / weight + max(others) / other_weight + 1e-6


@given(st.integers(1, 300), WEIGHT, COST)
def test_nobody_waits_for_ever(greedy: int, weight: float, cost: float) -> None:
    """However many another has waiting, and still sends, a newcomer's turn comes by its share."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(greedy):
        queue.push("greedy", 7.0, 100, "g")
    for _ in range(greedy // 2):
        queue.pop()
    mine = queue.push("small", weight, cost, "mine")
    before = 0
    while (entry := queue.pop()) is not mine:
        assert entry is not None
        before += 1
        queue.push("greedy", 7.0, 100, "g")
    assert before <= 2  # its first starts no later than what had begun


class Rig:
    """A server of one token a tick, to which flows come and go."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.queue: FairQueue[int] = FairQueue()
        self.weights = weights
        self.got = [0.0] * len(weights)

    def offer(self, flow: int, cost: float) -> None:
        self.queue.push(flow, self.weights[flow], cost, 0)

    def serve(self) -> bool:
        entry = self.queue.pop()
        if entry is not None:
            self.got[int(str(entry.flow))] += entry.cost
        return entry is not None


@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 3), COST)), max_size=200))
def test_the_engine_never_waits_for_those_who_wait(steps: list[tuple[int, float] | None]) -> None:
    rig = Rig([1, 2, 3, 4])
    waiting = 0
    for step in steps:
        if step is None:
            assert rig.serve() == (waiting > 0)
            waiting = max(0, waiting - 1)
        else:
            rig.offer(*step)
            waiting += 1
        assert len(rig.queue) == waiting


def test_a_pause_is_neither_paid_nor_punished() -> None:
    rig = Rig([1, 1])
    for _ in range(100):
        rig.offer(0, 10)
    for _ in range(50):
        rig.serve()  # the other one is away
    for _ in range(100):
        rig.offer(1, 10)
    before = rig.got[0]
    for _ in range(60):
        rig.serve()
    assert abs(rig.got[0] - before - rig.got[1]) <= 10


@given(st.integers(1, 3000), st.integers(1, 30))
def test_a_credit_is_bounded(away: int, credit: int) -> None:
    """Who was away comes first with what it has a credit for, and then as everybody else."""
    queue: FairQueue[int] = FairQueue(credit=credit * 10)
    queue.push("a", 1, 10, 0)
    queue.push("b", 1, 10, 0)
    for _ in range(2):
        queue.pop()
    for _ in range(away + 200):
        queue.push("a", 1, 10, 0)
    for _ in range(away):
        queue.pop()
    for _ in range(200):
        queue.push("b", 1, 10, 0)
    flows = [entry.flow for entry in (queue.pop() for _ in range(150)) if entry is not None]
    ahead = min(credit, away) - 1
    assert flows.count("b") - flows.count("a") <= ahead + 5
    assert all(flow == "b" for flow in flows[: max(0, ahead - 1)])
    assert abs(flows[ahead + 3 :].count("b") - flows[ahead + 3 :].count("a")) <= 6


def test_what_a_request_really_took_is_charged() -> None:
    """One flow asks for little and takes much: it is held to what it takes."""
    queue: FairQueue[int] = FairQueue()
    for _ in range(400):
        queue.push("liar", 1, 10, 0)
        queue.push("honest", 1, 100, 0)
    got: Counter[object] = Counter()
    for _ in range(200):
        entry = queue.pop()
        assert entry is not None
        got[entry.flow] += 100
        if entry.flow == "liar":
            queue.correct("liar", 90)
    assert abs(got["liar"] - got["honest"]) <= 200


def test_a_debt_does_not_go_with_those_who_leave() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("debtor", 1, 10, 0)
    assert queue.pop() is not None
    queue.correct("debtor", 1000)
    assert queue.remove(queue.push("debtor", 1, 10, 0))
    queue.push("debtor", 1, 10, 0)
    for _ in range(5):
        queue.push("other", 1, 100, 1)
    assert [entry.flow for entry in drained(queue)][:5] == ["other"] * 5


def test_some_go_before_the_others_of_their_flow_only() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("a", 1, 10, "a1")
    queue.push("b", 1, 10, "b1")
    queue.push("a", 1, 10, "a0", ahead=True)
    assert [entry.item for entry in drained(queue)] == ["a0", "b1", "a1"]


@given(CROWD, st.data())
def test_who_leaves_is_gone(crowd: Crowd, data: st.DataObject) -> None:
    queue: FairQueue[int] = FairQueue()
    entries = [
        queue.push(flow, weight, cost, number)
        for flow, (weight, costs) in enumerate(crowd)
        for number, cost in enumerate(costs)
    ]
    gone = data.draw(st.sets(st.sampled_from(entries)))
    assert all(queue.remove(entry) for entry in gone)
    assert not any(queue.remove(entry) for entry in gone)
    taken = drained(queue)
    assert not gone & set(taken)
    assert len(taken) == len(entries) - len(gone)


@given(st.lists(st.tuples(st.integers(0, 3), WEIGHT, COST, st.floats(-500, 500)), max_size=60))
def test_who_finds_nobody_waiting_is_charged_as_if_he_had_waited(
    comers: list[tuple[int, float, float, float]],
) -> None:
    through: FairQueue[int] = FairQueue(credit=300)
    waited: FairQueue[int] = FairQueue(credit=300)
    for flow, weight, cost, more in comers:
        through.pass_through(flow, weight, cost)
        waited.push(flow, weight, cost, flow)
        waited.pop()
        through.correct(flow, more)
        waited.correct(flow, more)
    for queue in (through, waited):
        for number in range(40):
            queue.push(number % 4, 1.0, 100.0, number)
    assert [one.item for one in drained(through)] == [one.item for one in drained(waited)]


def test_the_order_of_coming_for_comparison() -> None:
    queue: FairQueue[int] = FairQueue(fair=False)
    for number in range(20):
        queue.push(number % 3, 1 + number % 3, 10, number, ahead=number % 2 == 0)
    assert [entry.item for entry in drained(queue)] == list(range(20))


def test_it_remembers_no_more_than_it_needs() -> None:
    queue: FairQueue[int] = FairQueue()
    blocker = queue.push("blocker", 1, 1, 0)
    for number in range(20_000):
        assert queue.remove(queue.push(f"tenant {number}", 1, 1, 0))
        assert queue.remove(queue.push("restless", 1, 1, 0))
    assert len(queue._flows) <= 2 * FLOWS_SPARE + 2
    assert len(queue._heap) <= 4 * FLOWS_SPARE + 8
    assert queue.pop() is blocker


def test_its_cost_grows_like_a_logarithm() -> None:
    def took_s(flows: int) -> float:
        queue: FairQueue[int] = FairQueue()
        for flow in range(flows):
            queue.push(flow, 1, 1, 0)
        rounds = 3000
        begun = time.process_time()
        for number in range(rounds):
            entry = queue.pop()
            assert entry is not None
            queue.push(entry.flow, 1, 1 + number % 7, 0)
        return (time.process_time() - begun) / rounds

    few = min(took_s(8) for _ in range(3))
    many = min(took_s(8192) for _ in range(3))
    assert many < few * (math.log2(8192) / math.log2(8)) * 4
