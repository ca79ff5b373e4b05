from typing import Any

import pytest

from serve.engines.capacity import cache_tokens, takes_priority
from serve.settings.model import ServedModel

PAGE = """\
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",engine="0",num_gpu_blocks="100"%s} 1.0
vllm:num_requests_running{engine="0"} 0.0
"""


def test_the_size_of_a_cache() -> None:
    assert cache_tokens(PAGE % "") == 3200
    assert cache_tokens(PAGE % ',kv_cache_size_tokens="None"') == 3200
    assert cache_tokens(PAGE % ',kv_cache_size_tokens="2900"') == 2900
    second = PAGE.replace('engine="0"', 'engine="1"')
    assert cache_tokens(PAGE % "" + second % "") == 6400


@pytest.mark.parametrize(
    "page", ["", "vllm:cache_config_info{} 1.0\n", PAGE.replace('"100"', '"None"') % ""]
)
def test_a_size_that_is_not_told(page: str) -> None:
    assert cache_tokens(page) is None


@pytest.mark.parametrize(
    ("config", "more", "takes"),
    [
        ({}, {}, True),
        ({"engine_args": {"scheduling-policy": "fcfs"}}, {}, False),
        ({"task": "embed"}, {}, False),
        ({}, {"engine": {"url": "https://127.0.0.1:1", "key_file": "k"}}, False),
    ],
)
def test_who_is_told_of_priority(config: dict[str, Any], more: dict[str, Any], takes: bool) -> None:
    base = {"name": "m", "source": {"path": "none"}, "context_tokens": 64}
    assert takes_priority(ServedModel.model_validate({"config": base | config} | more)) is takes
