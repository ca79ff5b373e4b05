"""The audit log: what is written to it, and where its checkpoints go."""

from pathlib import Path

from pydantic import Field

from serve.settings.terms import Frozen


class Audit(Frozen):
    """A chained log of what was done and answered, in `audit/` of `var_dir`."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    requests: bool = Field(
        default=True,
        description="Whether each admitted request leaves a receipt in it, about 1 KB; without "
        "them it holds what was done to the server.",
    )
    segment_mib: float = Field(
        default=8,
        ge=1,
        le=1024,
        description="Size of its files, in MiB; this much of the disk is taken beforehand.",
    )
    segment_hours: float = Field(
        default=24, gt=0, le=8760, description="Hours after which the next file is begun."
    )
    checkpoint_every_s: float = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Seconds between two signed checkpoints, where there was something to sign.",
    )
    export_dir: Path | None = Field(
        default=None,
        description="Folder that checkpoints are copied to: one of another machine, mounted here. "
        "Relative to `root`.",
    )
    key_file: Path | None = Field(
        default=None,
        description="Ed25519 key (PEM, PKCS #8, mode 0600) that checkpoints are signed with; "
        "without it, `audit/key.pem` in `var_dir`, made at the first start. Relative to `root`.",
    )
    keep_days: float | None = Field(
        default=365,
        ge=1,
        le=36_500,
        description="Days after which whole files of it are removed, once a signed checkpoint "
        "holds on to their end (an exported one, with `export_dir`); `null` keeps them.",
    )
