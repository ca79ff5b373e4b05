"""What an engine is started with: command line, environment, socket."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import SettingsError
from serve.engines.hardware import GIB, Hardware
from serve.engines.launch import CLOSED, LaunchPlan, plan, socket_of
from serve.engines.profile import choose
from serve.engines.shape import Shape
from serve.settings.load import load_site
from serve.settings.model import ServedModel

Models = Callable[..., ServedModel]

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = Shape(GIB // 4, 2, 11_520)
PARSE = """\
import json, sys
from serve.engines.vllm_main import parse
shown = ("model", "uds", "served_model_name", "max_model_len", "tool_call_parser",
         "reasoning_parser", "enable_auto_tool_choice", "tensor_parallel_size", "runner",
         "gpu_memory_utilization", "trust_remote_code", "allowed_local_media_path",
         "allowed_media_domains", "max_logprobs", "dtype", "override_generation_config",
         "enable_prompt_tokens_details", "disable_uvicorn_access_log", "middleware", "api_key")
for argv in json.load(sys.stdin):
    args = vars(parse(argv))
    print("ARGS " + json.dumps({name: args[name] for name in shown}, default=str))
"""


def planned(model: ServedModel, hardware: Hardware, environ: dict[str, str]) -> LaunchPlan:
    return plan(
        model, choose(hardware, model, SMALL), run_dir=Path("/run/inhouse"),
        var_dir=Path("/var/inhouse"), environ=environ, ready_timeout_s=900,
    )  # fmt: skip


def words(launch: LaunchPlan) -> tuple[str, ...]:
    """vLLM's part of the command line."""
    assert launch.argv[:3] == (sys.executable, "-m", "serve.engines.vllm_main")
    return launch.argv[3:]


def test_the_environment_is_built_from_nothing(avx2: Hardware, model: Models) -> None:
    ours = {
        "PATH": "/usr/bin",
        "HOME": "/home/inhouse",
        "INHOUSE_KEY": "sk-secret",
        "HTTPS_PROXY": "http://proxy",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
        "VLLM_PLUGINS": "evil",
        "HF_TOKEN": "hf-secret",
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/evil",
    }
    env = planned(model(), avx2, ours).env
    assert (env["PATH"], env["HOME"]) == ("/usr/bin", "/home/inhouse")
    assert not {"INHOUSE_KEY", "HTTPS_PROXY", "HF_TOKEN", "PYTHONPATH"} & set(env)
    assert env["LD_PRELOAD"] == "/opt/lib/libiomp5.so"
    assert CLOSED.items() <= dict(env).items()
    assert env["VLLM_ALLOW_INSECURE_SERIALIZATION"] == "0"


def test_nothing_is_written_outside_the_two_directories(avx2: Hardware, model: Models) -> None:
    launch = planned(model(), avx2, {})
    for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert launch.env[name].startswith("/var/inhouse/cache/engines/small/")
    # What modules read while they are imported is the same for all, for a standby's sake.
    for name in ("VLLM_CONFIG_ROOT", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        assert launch.env[name].startswith("/var/inhouse/cache/engines")
    for name in ("TMPDIR", "VLLM_RPC_BASE_PATH"):
        assert launch.env[name].startswith("/run/inhouse")
    assert (launch.cwd, launch.socket.parent) == (Path("/run/inhouse"), Path("/run/inhouse"))


def test_caches_are_kept_from_one_snapshot_to_the_next(avx2: Hardware, model: Models) -> None:
    first, second = (model(snapshot=date(2026, month, 1)) for month in (1, 2))
    one, other = planned(first, avx2, {}), planned(second, avx2, {})
    assert one.env["TORCHINDUCTOR_CACHE_DIR"] == other.env["TORCHINDUCTOR_CACHE_DIR"]
    assert one.socket != other.socket
    assert "--served-model-name=small-2026-01-01" in one.argv


def test_a_model_s_own_flags_win_over_the_profile_s(avx2: Hardware, model: Models) -> None:
    launch = planned(model(engine_args={"max_num_batched_tokens": 99}), avx2, {})
    assert [word for word in launch.argv if "batched" in word] == ["--max-num-batched-tokens=99"]


def test_switches(avx2: Hardware, model: Models) -> None:
    flags = {"enable-prefix-caching": False, "async-scheduling": True}
    argv = planned(model(engine_args=flags), avx2, {}).argv
    assert {"--no-enable-prefix-caching", "--async-scheduling"} <= set(argv)


def test_a_run_directory_too_deep_for_sockets_is_refused(model: Models) -> None:
    with pytest.raises(SettingsError, match=r"117 bytes, 107 at most\); set a shorter var_dir"):
        socket_of(Path("/" + "d" * 79), model().id)
    with pytest.raises(SettingsError, match="too long"):
        socket_of(Path("/" + "d" * 60), model(name="m" * 60).id)


@pytest.mark.engine
def test_vllm_s_own_parser_takes_every_shipped_site(
    avx2: Hardware, h100: Hardware, h100_x8: Hardware, model: Models
) -> None:
    machines = {"gpu-1x80g": h100, "gpu-8x80g": h100_x8}
    models: list[ServedModel] = []
    argvs = []
    for file in sorted((CONFIGS / "sites").glob("*.yaml")):
        for one in load_site(file, env={}).models:
            models.append(one)
            argvs.append(words(planned(one, machines.get(file.stem, avx2), {})))
    done = parsed(argvs)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("ARGS ")]
    assert len(lines) == len(models) >= 9
    for one, line in zip(models, lines, strict=True):
        check(one, json.loads(line.removeprefix("ARGS ")))


def check(model: ServedModel, args: dict[str, Any]) -> None:
    """What vLLM understood is what the site file meant, and nothing opens a door."""
    config = model.config
    assert args["model"] == str(config.source.path)
    assert args["served_model_name"] == [model.id]
    assert args["max_model_len"] == config.context_tokens
    assert args["tensor_parallel_size"] == config.parallel.tensor
    assert args["runner"] == ("pooling" if config.task == "embed" else "auto")
    assert args["tool_call_parser"] == config.tool_parser
    assert args["enable_auto_tool_choice"] is (config.tool_parser is not None)
    assert (args["reasoning_parser"] or None) == config.reasoning_parser
    assert args["uds"].endswith(f"/{model.id}.sock")
    assert args["trust_remote_code"] is False
    assert not args["allowed_local_media_path"]
    assert not args["allowed_media_domains"]
    assert args["middleware"] == []
    assert args["disable_uvicorn_access_log"] is True
    if config.gpu_memory_fraction is not None:
        assert args["gpu_memory_utilization"] == config.gpu_memory_fraction
    if config.task == "generate":
        assert args["max_logprobs"] == 20
        assert args["enable_prompt_tokens_details"] is True
        assert args["override_generation_config"]["temperature"] == config.sampling.temperature


@pytest.mark.engine
@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("--max-num-batched-tokenz=3", "unrecognized arguments: --max-num-batched-tokenz=3"),
        ("--block-size=many", "argument --block-size: "),
    ],
)
def test_a_flag_that_vllm_does_not_take_is_refused_by_name(
    avx2: Hardware, model: Models, word: str, complaint: str
) -> None:
    done = parsed([(*words(planned(model(), avx2, {})), word)])
    assert done.returncode == 3
    refusals = [line for line in done.stderr.splitlines() if complaint in line]
    assert len(refusals) == 1
    assert refusals[0].endswith("correct engine_args in the model file")
    assert "Traceback" not in done.stderr
    assert "usage:" not in done.stderr


def parsed(argvs: list[tuple[str, ...]]) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: vLLM takes seconds to import, and changes what it is in."""
    pytest.importorskip("setproctitle", reason="vLLM is not installed")
    return subprocess.run(
        [sys.executable, "-c", PARSE], input=json.dumps(argvs), capture_output=True, text=True,
        timeout=180, check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **CLOSED},
    )  # fmt: skip


def test_only_an_engine_that_may_have_adapters_is_told_of_them(
    avx2: Hardware, model: Models
) -> None:
    plain = planned(model(), avx2, {})
    assert not any("lora" in word for word in plain.argv)
    assert plain.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "0"
    adapted = planned(
        model(adapter_dir=Path("/adapters"), adapter_slots=3, adapter_rank_max=64), avx2, {}
    )
    for word in ("--enable-lora", "--max-loras=3", "--max-lora-rank=64"):
        assert word in adapted.argv
    assert adapted.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    listed = planned(model(adapters=[{"name": "a", "path": Path("/a")}]), avx2, {})
    assert "--enable-lora" in listed.argv
