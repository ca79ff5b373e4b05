"""What clients may upload, and how their batches are run."""

from pydantic import Field

from serve.settings.terms import Frozen


class Files(Frozen):
    """Bounds on what clients upload."""

    file_mib: float = Field(
        default=512, gt=0, le=1_048_576, description="Largest file of `/v1/files`, in MiB."
    )
    upload_mib: float = Field(
        default=8192,
        gt=0,
        le=1_048_576,
        description="Largest file that is uploaded in parts (`/v1/uploads`), in MiB.",
    )
    part_mib: float = Field(
        default=64, gt=0, le=1024, description="Largest part of such an upload, in MiB."
    )
    tenant_gib: float = Field(
        default=100,
        gt=0,
        le=1_048_576,
        description="What the files of one tenant may take together, in GiB.",
    )


class Batches(Frozen):
    """How batches are run beside what is asked by people."""

    concurrent_lines: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Lines of batches that a model works on at once while nothing else is asked "
        "of it.",
    )
    lines_beside: int = Field(
        default=1,
        ge=0,
        le=4096,
        description="The same while it has other requests; with 0 batches wait until it has none.",
    )
    calm_s: float = Field(
        default=2,
        ge=0,
        le=3600,
        description="Seconds without another request after which a model counts as free again.",
    )
    lines: int = Field(
        default=50_000, ge=1, le=1_000_000, description="Most lines of one batch's input file."
    )
    input_mib: float = Field(
        default=200, gt=0, le=65_536, description="Largest input file of a batch, in MiB."
    )
    unfinished: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Batches that one tenant may have unfinished; more are refused (429).",
    )
