"""Rates come from what an engine's counters did between two looks, and from nothing else."""

import pytest

from serve.metering.rates import SAMPLES_MAX, WINDOW_S, Rates, Reading, Window, combined, read

PAGE = """\
# HELP vllm:num_requests_running Running.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e9
vllm:generation_tokens_total{engine="0",model_name="m"} 50.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 80.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 20.0
vllm:prompt_tokens_by_source_total{source="x, y",model_name="m"} 9.0
"""


def test_a_page_is_summed_over_cores_and_the_fullest_cache_counts() -> None:
    assert read(PAGE) == Reading(
        running=4, waiting=2, kv_use=0.75, prompt_tokens=100, generated_tokens=50,
        queried_tokens=80, hit_tokens=20,
    )  # fmt: skip
    reading = read(PAGE)
    assert reading is not None
    assert reading.cache_hit_ratio == 0.25


def test_a_page_that_is_not_an_engines_says_nothing() -> None:
    assert read("") is None
    assert read("# TYPE up gauge\nup 1\n") is None
    assert read("vllm:num_requests_running NONE\n") is None


def test_engines_together_are_summed_and_the_fullest_cache_counts() -> None:
    one = Reading(running=1, kv_use=0.5, queried_tokens=10, hit_tokens=10)
    other = Reading(running=2, waiting=3, kv_use=0.25, queried_tokens=30)
    both = combined([one, other])
    assert (both.running, both.waiting, both.kv_use, both.cache_hit_ratio) == (3, 3, 0.5, 0.25)


def test_before_the_first_prompt_there_is_no_ratio() -> None:
    assert Reading().cache_hit_ratio is None


def test_rates_are_over_the_time_between_looks() -> None:
    window = Window()
    window.add(100.0, 1, Reading(prompt_tokens=10, generated_tokens=5))
    assert window.rates() == Rates()
    window.add(102.0, 1, Reading(prompt_tokens=30, generated_tokens=105))
    assert window.rates() == Rates(prompt=10, generated=50)


def test_two_looks_at_once_measure_nothing() -> None:
    window = Window()
    window.add(100.0, 1, Reading(generated_tokens=5))
    window.add(100.01, 1, Reading(generated_tokens=6))
    assert window.rates() == Rates()


def test_another_process_counts_from_zero() -> None:
    window = Window()
    window.add(100.0, 1, Reading(generated_tokens=1000))
    window.add(101.0, 2, Reading(generated_tokens=0))
    assert window.rates() == Rates()
    window.add(102.0, 2, Reading(generated_tokens=7))
    assert window.rates().generated == pytest.approx(7)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = Window()
    window.add(0.0, 1, Reading(generated_tokens=0))
    window.add(WINDOW_S + 1, 1, Reading(generated_tokens=1000))
    assert window.rates() == Rates()
    window.add(WINDOW_S + 2, 1, Reading(generated_tokens=1003))
    assert window.rates().generated == pytest.approx(3)


def test_who_looks_without_end_is_bounded() -> None:
    window = Window()
    for i in range(SAMPLES_MAX * 3):
        window.add(i / 100, 1, Reading(generated_tokens=i))
    assert window.rates().generated == pytest.approx(100)
