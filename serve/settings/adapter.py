"""LoRA adapters of a model, as its file names them."""

from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from serve.settings.terms import Digest, Frozen, ModelName

ADAPTER_SLOTS_MAX: Final = 64
AdapterRank = Literal[8, 16, 32, 64, 128, 256]


class Adapter(Frozen):
    """One adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`."""

    name: ModelName = Field(description="The adapter; clients ask for `name:adapter`.")
    path: Path = Field(description="Folder of the adapter. Relative to `root`.")
    digest: Digest | None = Field(
        default=None,
        description="Digest of that folder (`inhouse digest DIR` prints it). Not checked where it "
        "is not given.",
    )
    snapshot: date | None = Field(
        default=None,
        description="Date of this adapter, YYYY-MM-DD; it is also served as "
        "`name:adapter-YYYY-MM-DD`, and answers carry that name.",
    )
