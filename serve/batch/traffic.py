"""What else the site's models are asked, from the gate that counts it."""

from serve.batch.pace import Seen
from serve.pipeline import Pipeline


class PipelineTraffic:
    """See `serve.batch.ports.Traffic`.

    A model and its adapters run on the same engines. A name that is none of a model's may become
    any, a route's does: then the busiest model counts.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def __call__(self, model: str) -> Seen:
        gate = self._pipeline.gate
        families = {base.id: (base, *base.adapters) for base in self._pipeline.served}
        lane = next(
            (lane for lane, ones in families.items() if any(model in one.names for one in ones)), ""
        )
        ids = [one.id for ones in ([families[lane]] if lane else families.values()) for one in ones]
        return Seen(
            lane,
            others=sum(gate.foreground_of(one) for one in ids),
            calm_for_s=min(gate.calm_for_s(one) for one in ids),
        )
