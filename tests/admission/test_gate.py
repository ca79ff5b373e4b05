import math

import pytest

from serve.admission.gate import Gate
from serve.core.errors import Draining, Overloaded


def test_the_bound_is_per_model_and_freed_by_leaving() -> None:
    gate = Gate(2)
    gate.enter("a")
    gate.enter("a")
    gate.enter("b")
    with pytest.raises(Overloaded, match=r"limits\.queue_requests") as caught:
        gate.enter("a")
    assert caught.value.retry_after_s > 0
    assert gate.in_hand == 3
    gate.leave("a")
    gate.enter("a")
    assert gate.in_hand_of("a") == 2


def test_draining_admits_nothing() -> None:
    gate = Gate(2)
    gate.drain()
    assert gate.draining
    with pytest.raises(Draining):
        gate.enter("a")


def test_what_nobody_waits_for_is_counted_apart() -> None:
    gate = Gate(3)
    assert gate.calm_for_s("a") == math.inf
    gate.enter("a", background=True)
    gate.enter("a")
    assert (gate.in_hand_of("a"), gate.foreground_of("a")) == (2, 1)
    gate.leave("a", background=True)
    assert gate.calm_for_s("a") == math.inf
    assert gate.foreground_of("a") == 1
    gate.leave("a")
    assert gate.foreground_of("a") == 0
    assert gate.calm_for_s("a") < 5
    assert gate.calm_for_s("b") == math.inf
