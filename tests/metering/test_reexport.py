from prometheus_client.parser import text_string_to_metric_families

from serve.metering.reexport import reexport

PAGE = """\
# HELP vllm:ttft_seconds Time.
# TYPE vllm:ttft_seconds histogram
vllm:ttft_seconds_bucket{le="0.1",model_name="x y"} 1.0
vllm:ttft_seconds_bucket{le="+Inf",model_name="x y"} 2.0
vllm:ttft_seconds_count{model_name="x y"} 2.0
vllm:ttft_seconds_sum{model_name="x y"} 0.5
# HELP up Up.
# TYPE up gauge
up 1
# HELP requests_total Requests.
# TYPE requests_total counter
requests_total 4.0
"""


def test_two_engines_become_one_valid_page() -> None:
    page = reexport({"a": PAGE, "b": PAGE})
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert page.count("# TYPE up gauge") == 1
    assert {s.labels["model"] for s in families["up"].samples} == {"a", "b"}
    histogram = families["vllm:ttft_seconds"]
    assert histogram.type == "histogram"
    assert len(histogram.samples) == 8
    assert histogram.samples[0].labels["model_name"] == "x y"
    assert families["requests"].type == "counter"


def test_no_engine_is_an_empty_page() -> None:
    assert reexport({}) == ""
