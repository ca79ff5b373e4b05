"""The path of one request, and what is served meanwhile."""

from serve.pipeline.outcome import outcome_of
from serve.pipeline.run import Pipeline

__all__ = ["Pipeline", "outcome_of"]
