from serve.admission.quotas import Quotas
from serve.admission.steady import SteadyClock, boot_id
from serve.core.errors import RateLimited
from serve.core.quota import Anchor
from serve.settings.limits import Limits
from tests.admission.test_quotas import ASKED

DAY_S = 86_400.0


class Machine:
    """A machine's clocks, one of which people set."""

    def __init__(self) -> None:
        self.up_s = 5000.0
        self.date_s = 1_800_000_000.0

    def monotonic_s(self) -> float:
        return self.up_s

    def wall_s(self) -> float:
        return self.date_s

    def wait(self, seconds: float) -> None:
        self.up_s += seconds
        self.date_s += seconds


def refused(quotas: Quotas, limits: Limits) -> bool:
    try:
        quotas.settle(quotas.reserve("a", limits, "m", ASKED), None)
    except RateLimited:
        return True
    return False


def test_no_window_opens_when_the_clock_jumps() -> None:
    for jump_s in (DAY_S, -DAY_S, 30 * DAY_S, -400 * DAY_S, 61.0, -61.0):
        machine = Machine()
        steady = SteadyClock(machine)
        quotas = Quotas(steady.now_s)
        limits = Limits(requests_per_day=3, requests_per_minute=2)
        assert [refused(quotas, limits) for _ in range(3)] == [False, False, True]
        machine.date_s += jump_s
        assert refused(quotas, limits)
        assert round(steady.astray_s) == jump_s
        machine.wait(61)
        assert [refused(quotas, limits) for _ in range(2)] == [False, True]
        machine.wait(DAY_S - 400)
        assert refused(quotas, limits)
        machine.wait(800)
        assert not refused(quotas, limits)


def test_another_process_counts_on() -> None:
    machine = Machine()
    first = SteadyClock(machine)
    machine.wait(100)
    machine.date_s += DAY_S
    second = SteadyClock(machine)
    second.hold(first.anchor)
    assert second.now_s() == first.now_s() == 1_800_000_100
    assert second.anchor == Anchor(5000, 1_800_000_000)


def test_a_start_of_the_machine_has_a_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) >= 7
