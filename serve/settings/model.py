"""One model as a site serves it: what it is, where its weights lie, how it is run."""

from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from serve.settings.adapter import ADAPTER_SLOTS_MAX, Adapter, AdapterRank
from serve.settings.engine_args import EngineArg, EngineArgName
from serve.settings.evals import EvalSet
from serve.settings.names import Entry, names_of
from serve.settings.remote import Remote
from serve.settings.terms import DeviceIndex, Digest, EngineName, Frozen, ModelName

__all__ = [
    "GPU_FRACTION_MAX", "EngineArg", "ModelConfig", "Parallel", "Placement", "Sampling",
    "ServedModel", "Source",
]  # fmt: skip

GPU_FRACTION_MAX: Final = 0.95
"""The most of one GPU's memory that engines may take; the driver and CUDA graphs need the rest."""


class Source(Frozen):
    """Where a model's weights are."""

    path: Path = Field(
        description="Folder of the model: safetensors weights, config, tokenizer. "
        "Relative to `root`."
    )
    digest: Digest | None = Field(
        default=None,
        description="Digest of that folder (`inhouse digest DIR` prints it); an engine does not "
        "open weights with another one. Not checked where it is not given.",
    )


class Parallel(Frozen):
    """How one model is spread over devices; it takes tensor x pipeline x data of them."""

    tensor: int = Field(default=1, ge=1, le=64, description="Devices that share each layer.")
    pipeline: int = Field(
        default=1, ge=1, le=64, description="Groups of layers, one after another."
    )
    data: int = Field(
        default=1, ge=1, le=64, description="Whole copies of the model in one engine."
    )

    @property
    def devices(self) -> int:
        """How many devices the engine takes."""
        return self.tensor * self.pipeline * self.data


class Sampling(Frozen):
    """What a request that does not say otherwise is sampled with.

    Meant for vLLM's `--override-generation-config`, as JSON of the fields that are given; the
    others come from the model's own `generation_config.json`, and then from vLLM.
    """

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness; 0 is greedy."
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Nucleus: probability kept.")
    top_k: int | None = Field(default=None, ge=0, description="Candidates kept; 0 keeps all.")
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least probability, as a part of the best candidate's.",
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, le=2, description="Above 1 discourages what was said already."
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Above 0 encourages new words."
    )


class ModelConfig(Frozen):
    """A model file (`configs/models/*.yaml`), possibly overridden by a site."""

    name: ModelName = Field(description="What clients call the model.")
    task: Literal["generate", "embed"] = Field(
        default="generate", description="What the model does: chat and completions, or embeddings."
    )
    source: Source = Field(description="Where the weights are.")
    context_tokens: int = Field(
        ge=16, le=16_777_216, description="Longest prompt plus answer, in tokens."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Number format of weights and activations; `auto` is what the checkpoint and "
        "this machine do best.",
    )
    quantization: EngineName | None = Field(
        default=None,
        description="vLLM's name of the weights' quantization (`--quantization`). Not needed for "
        "checkpoints that say it in their config.",
    )
    parallel: Parallel = Field(
        default=Parallel(), description="How the model is spread over devices."
    )
    devices: tuple[DeviceIndex, ...] | None = Field(
        default=None,
        min_length=1,
        description="GPUs that this model runs on, by index from 0 (`CUDA_VISIBLE_DEVICES`). "
        "Without it: the first ones.",
    )
    gpu_memory_fraction: float | None = Field(
        default=None,
        gt=0,
        le=GPU_FRACTION_MAX,
        description="Part of each GPU's memory for weights and KV cache "
        "(`--gpu-memory-utilization`). Without it the hardware profile decides. Needed for every "
        "model that shares a GPU; the parts on one GPU may add up to 0.95.",
    )
    cpu_kv_gib: int | None = Field(
        default=None,
        ge=1,
        le=16_384,
        description="Memory for the KV cache on a CPU, in GiB (`VLLM_CPU_KVCACHE_SPACE`). Without "
        "it the hardware profile decides.",
    )
    max_streams: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Sequences that the engine works on at once; more wait. Its `--max-num-seqs` "
        "is half as many more, 64 at most, for tenants with less than their share. Without it the "
        "hardware profile decides.",
    )
    images: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Images that one request may hold (`--limit-mm-per-prompt`), for models that "
        "see. 0: the model takes text only.",
    )
    tool_parser: EngineName | None = Field(
        default=None,
        description="vLLM's parser of this model's tool calls (`--tool-call-parser`). Without it "
        "a model is not asked to choose tools by itself.",
    )
    reasoning_parser: EngineName | None = Field(
        default=None,
        description="vLLM's parser that separates reasoning from the answer "
        "(`--reasoning-parser`).",
    )
    chat_template: Path | None = Field(
        default=None,
        description="File to use in place of the model's own chat template. Relative to `root`.",
    )
    harmony_vocab: Path | None = Field(
        default=None,
        description="gpt-oss only: folder with `o200k_base.tiktoken`, which its chat format is "
        "read with (`TIKTOKEN_ENCODINGS_BASE`); engines cannot download it. Relative to `root`.",
    )
    sampling: Sampling = Field(
        default=Sampling(),
        description="What a request that does not say otherwise is sampled with.",
    )
    adapters: tuple[Adapter, ...] = Field(
        default=(),
        max_length=256,
        description="LoRA adapters of this model, each served as `name:adapter`.",
    )
    adapter_dir: Path | None = Field(
        default=None,
        description="Folder of more adapters, one folder each, that may come and go while the "
        "model is served. Relative to `root`.",
    )
    adapter_slots: int = Field(
        default=4,
        ge=1,
        le=ADAPTER_SLOTS_MAX,
        description="Adapters that one step of the engine may mix (`--max-loras`).",
    )
    adapter_rank_max: AdapterRank = Field(
        default=16, description="Largest rank of an adapter (`--max-lora-rank`)."
    )
    evals: tuple[EvalSet, ...] = Field(
        default=(),
        max_length=16,
        description="Questions that a new engine must answer well enough before it is given "
        "requests.",
    )
    engine_args: dict[EngineArgName, EngineArg] = Field(
        default_factory=dict,
        description="More vLLM flags, by long name without dashes in front; `true` and `false` "
        "for switches, JSON as text. Flags that Inhouse sets, and unsafe ones, are refused.",
    )

    @field_validator("engine_args", mode="before")
    @classmethod
    def _each_once(cls, value: object) -> object:
        if isinstance(value, dict):
            flags = [str(key).replace("_", "-") for key in value]
            twice = sorted({flag for flag in flags if flags.count(flag) > 1})
            if twice:
                raise PydanticCustomError("engine_arg", "{flag} is given twice", {"flag": twice[0]})
        return value


class Placement(Frozen):
    """What a site says of a model that is not the model's own matter."""

    snapshot: date | None = Field(
        default=None,
        description="Date of these weights and settings, YYYY-MM-DD. The model is also served as "
        "`name-YYYY-MM-DD`, and answers carry that name.",
    )
    aliases: tuple[ModelName, ...] = Field(default=(), description="More names for the model.")
    deprecated: date | None = Field(
        default=None,
        description="Date from which clients should no longer build on this model, YYYY-MM-DD.",
    )
    sunset: date | None = Field(
        default=None,
        description="Date from which the site may no longer serve it, YYYY-MM-DD.",
    )
    replaced_by: ModelName | None = Field(
        default=None, description="What a client of a deprecated model should ask for instead."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Engines that serve this model beside each other, each with memory of its "
        "own; a conversation returns to the one that has it cached.",
    )
    engine: Remote | None = Field(
        default=None,
        description="A server elsewhere that answers for this model; without it an engine is "
        "started here.",
    )
    load: Literal["startup", "on_demand"] = Field(
        default="startup",
        description="When its engine starts: with the server, or when first asked for.",
    )
    pin: bool = Field(default=False, description="Never stopped to make room for another model.")
    idle_sleep_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds without a request after which the engine gives its memory back: it "
        "sleeps where it can, else it is stopped.",
    )


class ServedModel(Placement):
    """A model file joined with what the site says of it: the unit the supervisor runs.

    `id` is the pinned name that responses carry: `name-YYYY-MM-DD` where a snapshot is given,
    else `name`.
    """

    config: ModelConfig

    @property
    def entry(self) -> Entry:
        """What it is called."""
        return Entry(self.config.name, self.snapshot, self.aliases)

    @property
    def id(self) -> str:
        return self.entry.pin

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it claims, the pinned id first; a newer snapshot may have the plain one.

        See `serve.settings.names` for who has which.
        """
        return names_of([self.entry])[0]

    @property
    def adaptable(self) -> bool:
        """Whether its engine may be given adapters."""
        return bool(self.config.adapters) or self.config.adapter_dir is not None
