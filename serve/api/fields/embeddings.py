"""`POST /v1/embeddings`: the table of its fields."""

from dataclasses import dataclass
from typing import Final

from serve.api.fields import chatshapes, checks
from serve.api.fields.checked import Checked
from serve.api.fields.completions import Prompts, read_prompts
from serve.api.fields.fate import Check, Origin, Table, forwarded, honoured, refused
from serve.api.fields.pooling import POOLING, TEXTS_MAX
from serve.settings.site import Limits

_VLLM: Final = Origin.VLLM
_ONE_FORMAT: Final = "vectors are little-endian float32."
_NO_CHAT: Final = "inputs are texts or token ids."

EMBEDDING: Final = Table(
    "/v1/embeddings",
    ("model", "input"),
    (
        honoured(
            "input",
            Check(
                f"string, token ids, or array of up to {TEXTS_MAX:,} of either, none empty",
                read_prompts,
                chatshapes.PROMPTS,
            ),
            "None is ever cut: one longer than the model's context is `context_length_exceeded`.",
        ),
        honoured(
            "encoding_format",
            checks.one_of("float", "base64"),
            "`float` when absent; `base64` holds the same numbers as little-endian float32.",
        ),
        forwarded(
            "dimensions",
            checks.integer(1, checks.INT32_MAX),
            "Only of a model whose config says that its vectors can be cut (Matryoshka), and only "
            "the lengths that it names; 400 otherwise.",
        ),
        *POOLING,
        forwarded(
            "add_special_tokens",
            checks.boolean(),
            "`false`: a text is read without what the model puts around it.",
            _VLLM,
        ),
        forwarded(
            "use_activation",
            checks.boolean(),
            "`false`: vectors as the model makes them, not of length 1.",
            _VLLM,
        ),
        refused("embed_dtype", _ONE_FORMAT, _VLLM),
        refused("endianness", _ONE_FORMAT, _VLLM),
        refused("messages", _NO_CHAT, _VLLM),
        refused("add_generation_prompt", _NO_CHAT, _VLLM),
        refused("continue_final_message", _NO_CHAT, _VLLM),
        refused("chat_template", _NO_CHAT, _VLLM),
        refused("chat_template_kwargs", _NO_CHAT, _VLLM),
        refused("media_io_kwargs", _NO_CHAT, _VLLM),
    ),
)


@dataclass(frozen=True, slots=True)
class AskedVectors(Checked):
    """`base64`: the client wants its vectors so, not as numbers."""

    base64: bool = False


def check_embedding(body: object, _: Limits) -> AskedVectors:
    """Check a request of `/v1/embeddings`, as orjson parsed it; raises InvalidRequest."""
    engine, own = EMBEDDING.read(body)
    inputs: Prompts = own["input"]
    engine["input"] = inputs.value
    return AskedVectors(
        model=own["model"],
        stream=False,
        include_usage=False,
        n=inputs.count,
        engine_body=engine,
        max_output_tokens=None,
        prompts=tuple([text] for text in inputs.texts),
        prompt_bytes=inputs.size_bytes,
        token_prompts=inputs.tokens,
        base64=own.get("encoding_format") == "base64",
    )
