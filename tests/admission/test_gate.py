import math

import pytest

from serve.admission.gate import Gate
from serve.core.errors import Draining


def test_requests_are_counted_model_by_model() -> None:
    gate = Gate(2)
    gate.enter("a")
    gate.enter("a")
    gate.enter("b")
    assert (gate.in_hand, gate.in_hand_of("a")) == (3, 2)
    gate.leave("a")
    assert gate.in_hand_of("a") == 1


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
