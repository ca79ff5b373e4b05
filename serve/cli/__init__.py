"""The `inhouse` command: commands only; what they do lies behind them."""

import sys

import typer

from serve.cli import (
    adapters,
    audit,
    batches,
    keys,
    models,
    release,
    replay,
    run,
    site,
    tenants,
    usage,
)
from serve.cli.terminal import fail
from serve.core.errors import InhouseError, SettingsError, SetupError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve open-weight models on your own machines behind an OpenAI-compatible API.",
)
for command in (
    run.serve, run.dev,
    models.status, models.load, models.sleep, models.drain, models.restart,
    adapters.adapters,
    batches.batches,
    release.plan, release.apply,
    replay.replay,
    site.check, site.schema, site.openapi, site.doctor, site.digest, site.version,
):  # fmt: skip
    app.command()(command)
app.add_typer(tenants.app, name="tenants")
app.add_typer(keys.app, name="keys")
app.add_typer(usage.app, name="usage")
app.add_typer(audit.app, name="audit")


def _add_bench() -> None:
    """The load generator, which a server would only start later for."""
    if all(group.name != "bench" for group in app.registered_groups):
        from serve.cli import bench  # noqa: PLC0415 - see above

        app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run a command; a known failure is one line on stderr and an exit code, never a traceback.

    Exit codes: 1 what was asked is refused, or no server is there, 2 the site file or the command
    line is wrong, 3 the machine lacks something.
    """
    if sys.argv[1:2] not in (["serve"], ["dev"]):
        _add_bench()
    try:
        app()
    except SettingsError as error:
        fail(error, 2)
    except SetupError as error:
        fail(error, 3)
    except InhouseError as error:
        fail(error, 1)
