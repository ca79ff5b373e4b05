"""How a site is run: its memory, its private door, and how it notices a changed file."""

from pathlib import Path

from pydantic import Field

from serve.settings.terms import Frozen


class Memory(Frozen):
    """What engines may take."""

    host_gib: float | None = Field(
        default=None,
        gt=0,
        description="Memory of the machine that engines may take together, in GiB; without it, "
        "what the machine (or this container) has.",
    )
    device_gib: float | None = Field(
        default=None,
        gt=0,
        description="Memory of each GPU that engines may take together, in GiB; without it, what "
        "the GPU has.",
    )
    reserve_gib: float = Field(
        default=1, ge=0, description="Memory of the machine left to everything else, in GiB."
    )


class Admin(Frozen):
    """The operator's own door."""

    socket: Path = Field(
        default=Path("run/admin.sock"),
        description="Unix socket that `inhouse status`, `load`, `apply` and the like talk to; "
        "only this user can open it. Relative to `var_dir`.",
    )


class Reload(Frozen):
    """When a changed site file is applied without being asked."""

    watch: bool = Field(
        default=False,
        description="Apply the site file when it or a model file changes, as SIGHUP does.",
    )
    watch_every_s: float = Field(
        default=2,
        ge=0.1,
        le=3600,
        description="Seconds between two looks; a change is applied once it has lasted one.",
    )
