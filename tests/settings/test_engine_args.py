from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.settings.engine_args import reason_refused
from serve.settings.model import ModelConfig, Source


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
