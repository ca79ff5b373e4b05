"""The body of `POST /v1/batches`: its table."""

import re
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.fate import Check, Table, honoured
from serve.api.fields.files import EXPIRY
from serve.api.fields.metadata import METADATA
from serve.batch.office import Asked

WINDOW_MAX_S: Final = 7 * 86_400
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}


def read_window(value: Any, param: str) -> tuple[str, int]:
    """How long a batch may take, as it was said and in seconds."""
    text = checks.text(value, param, 64)
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text, re.ASCII)
    seconds = int(match[1]) * _UNITS[match[2]] if match is not None else 0
    if not 0 < seconds <= WINDOW_MAX_S:
        raise faults.invalid(
            param,
            "expected '24h', or another whole number of minutes, hours or days (30m, 6h, 2d) of "
            f"up to 7d, but got {faults.shown(value)} instead.",
        )
    return text, seconds


_WINDOW: Final = {"type": "string", "pattern": "^[1-9][0-9]{0,5}[mhd]$"}
BATCH: Final = Table(
    "/v1/batches",
    ("input_file_id", "endpoint", "completion_window"),
    (
        honoured(
            "input_file_id",
            checks.string(80, minimum_chars=1),
            "A file with the purpose `batch`. At most the site's `batches.lines` and "
            "`batches.input_mib`.",
        ),
        honoured(
            "endpoint",
            checks.string(80, minimum_chars=1),
            "`/v1/responses`, `/v1/chat/completions`, `/v1/embeddings` or `/v1/completions`.",
        ),
        honoured(
            "completion_window",
            Check(
                "`24h`, or another number of minutes, hours or days: `30m`, `2d`",
                read_window,
                _WINDOW,
            ),
            "Up to `7d`. What has not been run by then is in the file of errors.",
        ),
        honoured("metadata", METADATA, "Kept with the batch."),
        honoured(
            "output_expires_after",
            EXPIRY,
            "Without it the files of results are kept as long as the site keeps this tenant's "
            "objects.",
        ),
    ),
)


def check_batch(body: object) -> Asked:
    """Check a request of `/v1/batches`; raises InvalidRequest."""
    _, own = BATCH.read(body)
    window, window_s = own["completion_window"]
    return Asked(
        input_file_id=own["input_file_id"],
        endpoint=own["endpoint"],
        window=window,
        window_s=window_s,
        metadata=own.get("metadata"),
        output_keep_s=own.get("output_expires_after"),
    )
