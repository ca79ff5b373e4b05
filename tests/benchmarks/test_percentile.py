import math

import pytest

from benchmarks.load.percentile import needed, percentile


def test_nearest_rank() -> None:
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert percentile([float(value) for value in range(1, 101)], 0.95) == 95.0


def test_failures_are_infinitely_slow() -> None:
    assert percentile([1.0, 2.0, 3.0], 0.5, failures=4) == math.inf
    assert percentile([1.0, 2.0, 3.0], 0.5, failures=1) == 2.0


@pytest.mark.parametrize(("q", "count"), [(0.5, 3), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_a_sample_too_small_gives_nothing(q: float, count: int) -> None:
    assert needed(q) == count
    assert percentile([1.0] * (count - 1), q) is None
    assert percentile([1.0] * count, q) == 1.0


@pytest.mark.parametrize("q", [0.0, 1.0, 50.0])
def test_only_quantiles(q: float) -> None:
    with pytest.raises(ValueError, match="not between"):
        percentile([1.0], q)
