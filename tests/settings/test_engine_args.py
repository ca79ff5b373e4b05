import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.settings.engine_args import reason_refused
from serve.settings.model import ModelConfig, Source
from serve.settings.vllm_flags import KNOWN, VERSION

ROOT = Path(__file__).parents[2]
OWN_FLAGS = """
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
flags = [f for a in make_arg_parser(FlexibleArgumentParser())._actions for f in a.option_strings]
print(*(flag[2:] for flag in flags if flag.startswith("--")))
"""


def config(**args) -> ModelConfig:
    return ModelConfig(name="m", source=Source(path=Path("w")), context_tokens=64, engine_args=args)


@pytest.mark.parametrize(
    "name",
    [
        "trust-remote-code", "no-trust-remote-code", "api-key", "host", "port", "uds", "grpc",
        "ssl-keyfile", "enable-ssl-refresh", "middleware", "allowed-origins",
        "allowed-local-media-path", "allowed-media-domains", "enable-prompt-embeds",
        "tool-parser-plugin", "reasoning-parser-plugin", "io-processor-plugin",
        "logits-processors", "worker-cls", "worker-extension-cls", "kv-transfer-config",
        "kv-events-config", "data-parallel-address", "config", "download-dir", "lora-modules",
        "otlp-traces-endpoint", "tool-server", "enable-log-requests", "enable-sleep-mode",
    ],
)  # fmt: skip
def test_unsafe_flags_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not allowed: "):
        config(**{name: True})
    with pytest.raises(ValidationError, match="not allowed: "):
        config(**{name.replace("-", "_"): True})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("model", "source.path"),
        ("max-model-len", "context_tokens"),
        ("tensor-parallel-size", "parallel.tensor"),
        ("max-num-seqs", "max_streams"),
        ("gpu-memory-utilization", "gpu_memory_fraction"),
        ("override-generation-config", "sampling"),
        ("quantization", "quantization"),
    ],
)
def test_flags_with_a_setting_of_their_own_name_it(name: str, field: str) -> None:
    assert reason_refused(name) == f"set {field} instead"
    assert field.split(".", maxsplit=1)[0] in ModelConfig.model_fields


@pytest.mark.parametrize("name", ["trust-remote", "trust", "ssl", "allowed", "middlew", "api-k"])
def test_short_forms_of_refused_flags_are_refused(name: str) -> None:
    assert "short forms are not allowed" in str(reason_refused(name))


@pytest.mark.parametrize(
    "name",
    ["max-num-batched-tokens", "kv-cache-dtype", "block-size", "enable-prefix-caching", "seed",
     "no-enable-prefix-caching", "async-scheduling", "enable-expert-parallel", "hf-overrides",
     "compilation-config", "default-chat-template-kwargs", "enforce-eager"],
)  # fmt: skip
def test_tuning_flags_are_allowed(name: str) -> None:
    assert reason_refused(name) is None
    assert config(**{name: 1}).engine_args == {name: 1}


@pytest.mark.parametrize("name", ["-tp", "", "a b", "x;y", "a.b", "compilation-config.mode", "Ü"])
def test_what_is_not_a_flag_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not an engine flag"):
        config(**{name: 1})


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("max-num-batched-tokenz", "did you mean max-num-batched-tokens?"),
        ("max-num-batched", "did you mean max-num-batched-tokens?"),
        ("no-block-size", "did you mean block-size?"),
        ("qqq", "remove it"),
    ],
)
def test_what_vllm_does_not_know_is_refused_with_the_nearest(name: str, fix: str) -> None:
    with pytest.raises(ValidationError) as refused:
        config(**{name: 1})
    assert f"vLLM {VERSION} has no such flag; {fix}" in str(refused.value)


def test_the_list_is_of_the_vllm_that_is_installed() -> None:
    for flavour in ("cpu", "cuda"):
        lock = (ROOT / "requirements" / f"engine-{flavour}.in").read_text()
        assert re.search(rf"^vllm(-cpu)?=={re.escape(VERSION)}$", lock, re.MULTILINE), flavour


@pytest.mark.engine
def test_the_list_is_what_vllm_s_own_parser_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OWN_FLAGS], capture_output=True, text=True, timeout=110, check=True
    )
    own = set(done.stdout.splitlines()[-1].split())
    assert {name for name in own - {"help"} if reason_refused(name) is None} == KNOWN


def test_names_are_normalised() -> None:
    made = config(**{"--block-size": 32, "kv_cache_dtype": "fp8"})
    assert made.engine_args == {"block-size": 32, "kv-cache-dtype": "fp8"}


@given(st.from_regex(r"[a-z_-]{0,20}", fullmatch=True))
def test_what_passes_is_a_plain_long_flag(name: str) -> None:
    try:
        (flag,) = config(**{name: 1}).engine_args
    except ValidationError:
        return
    assert flag[0].isalpha()
    assert "_" not in flag
    assert reason_refused(flag) is None
