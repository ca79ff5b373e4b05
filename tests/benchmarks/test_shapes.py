import pytest

from benchmarks.load.shapes import Kind, Shape


@pytest.mark.parametrize(
    ("kind", "users"),
    [
        ("constant", [10, 10, 10, 10, 10, 10]),
        ("ramp", [1, 2, 3, 5, 7, 8]),
        ("spike", [2, 2, 10, 10, 2, 2]),
    ],
)
def test_users_over_time(kind: Kind, users: list[int]) -> None:
    shape = Shape(kind, peak_users=10, duration_s=60)
    assert [shape.users(at_s) for at_s in (0, 10, 20, 30, 40, 50)] == users
    assert shape.users(60) is None


def test_steps_rise_for_as_long_as_the_level_is_kept() -> None:
    shape = Shape("step", peak_users=5, duration_s=100, step_s=10, step_users=2)
    assert [shape.users(at_s) for at_s in (0, 9.9, 10, 20, 30)] == [2, 2, 4, 5, 5]
    assert shape.users(20, attainment=0.99) == 5
    assert shape.users(20, attainment=0.98) is None


def test_a_trace_is_pressed_into_the_time_there_is() -> None:
    """Two thirds of its requests come in the first sixth of it."""
    offsets = (*(n / 100 for n in range(100)), *(n * 1.0 for n in range(1, 51)), 60.0)
    shape = Shape("trace", peak_users=20, duration_s=30, offsets_s=offsets)
    users = [shape.users(at_s) for at_s in (0, 5, 10, 15, 20, 29)]
    assert users[0] == 20
    assert users[1:] == [2, 2, 2, 2, 1]
