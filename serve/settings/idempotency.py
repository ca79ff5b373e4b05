"""How long a request's result is kept for those who send the request again."""

from pydantic import Field

from serve.settings.terms import Frozen


class Idempotency(Frozen):
    """Results of requests with an `Idempotency-Key`."""

    keep_hours: float = Field(
        default=24,
        gt=0,
        le=8760,
        description="Hours that a result is kept, and that its key means that request.",
    )
    result_mib: float = Field(
        default=8,
        gt=0,
        le=256,
        description="Largest result that is kept, in MiB. After a larger one its key is answered "
        "with 409.",
    )
    tenant_keys: int = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description="Keys that are kept of one tenant; the oldest go first.",
    )
