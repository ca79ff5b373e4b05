"""What a new engine must answer before it is given requests."""

from pathlib import Path

from pydantic import Field

from serve.settings.terms import Frozen


class EvalSet(Frozen):
    """A file of questions and what must be answered, one JSON object a line."""

    path: Path = Field(description="The file (JSONL). Relative to `root`.")
    threshold: float = Field(
        default=1.0, ge=0, le=1, description="Part of the questions that must be answered well."
    )
    max_cases: int = Field(
        default=1000, ge=1, le=100_000, description="Questions asked; a longer file is refused."
    )
    timeout_s: float = Field(
        default=300, gt=0, le=86_400, description="Seconds within which all must be answered."
    )
