"""`POST /tokenize` and `POST /detokenize`, vLLM's: the tables, and the rules between the fields."""

from typing import Any, Final

from serve.api.fields import chatshapes, checks, faults
from serve.api.fields.chat import CHAT, check_continued
from serve.api.fields.checked import Checked
from serve.api.fields.completions import PROMPT_TOKENS_MAX
from serve.api.fields.fate import Check, Origin, Table, forwarded, honoured, refused
from serve.api.fields.messages import Conversation
from serve.api.fields.shapes import STRING
from serve.api.fields.shared import MODEL
from serve.settings.site import Limits

_VLLM: Final = Origin.VLLM
_TEXT_ONLY: Final = "models served here take text only."
_OF_CHAT: Final = (
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
    "tools",
)
"""What means nothing without `messages`."""


def _text(value: Any, param: str) -> str:
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    checks.size_bytes(value, param)
    return value


def _token_ids(value: Any, param: str) -> Any:
    checks.array(value, param, PROMPT_TOKENS_MAX)
    if not set(map(type, value)) <= {int}:
        raise faults.wrong_type(param, "an array of token ids (integers)", value)
    if value and min(value) < 0:
        raise faults.below(param, "integer", 0, min(value))
    if value and max(value) > checks.INT32_MAX:
        raise faults.above(param, "integer", checks.INT32_MAX, max(value))
    return value


TOKENIZE: Final = Table(
    "/tokenize",
    ("model",),
    (
        MODEL,
        honoured("prompt", Check("string", _text, STRING), "Either this or `messages`.", _VLLM),
        honoured(
            "messages",
            CHAT.fields["messages"].check,
            "Either this or `prompt`. As `/v1/chat/completions` takes them, through the model's "
            "chat template.",
            _VLLM,
        ),
        forwarded(
            "add_special_tokens",
            checks.boolean(),
            "`true` when absent for a prompt, `false` for messages: their template adds them.",
            _VLLM,
        ),
        forwarded(
            "return_token_strs", checks.boolean(), "The answer has the tokens' texts too.", _VLLM
        ),
        forwarded(
            "add_generation_prompt",
            checks.boolean(),
            "`true` when absent. Only with `messages`.",
            _VLLM,
        ),
        forwarded(
            "continue_final_message",
            checks.boolean(),
            "Only with `messages`; the last one must be the assistant's.",
            _VLLM,
        ),
        forwarded(
            "chat_template_kwargs",
            CHAT.fields["chat_template_kwargs"].check,
            "Only with `messages`.",
            _VLLM,
        ),
        honoured("tools", CHAT.fields["tools"].check, "Only with `messages`.", _VLLM),
        refused("chat_template", "a template is code; the site's model file names it.", _VLLM),
        refused("media_io_kwargs", _TEXT_ONLY, _VLLM),
        refused("mm_processor_kwargs", _TEXT_ONLY, _VLLM),
    ),
)

DETOKENIZE: Final = Table(
    "/detokenize",
    ("model", "tokens"),
    (
        MODEL,
        honoured(
            "tokens",
            Check("array of token ids", _token_ids, chatshapes.TOKENS),
            "Special tokens are part of the text.",
            _VLLM,
        ),
    ),
)


def check_tokenize(body: object, _: Limits) -> Checked:
    """Check a request of `/tokenize`, as orjson parsed it; raises InvalidRequest."""
    engine, own = TOKENIZE.read(body)
    conversation: Conversation | None = own.get("messages")
    if conversation is None:
        return _of_prompt(engine, own)
    if "prompt" in own:
        raise faults.invalid("prompt", "it cannot be combined with 'messages'.")
    if conversation.images:
        raise faults.unsupported("messages", "only texts have tokens that can be told.")
    engine["messages"] = conversation.messages
    if "tools" in own:
        engine["tools"] = own["tools"].tools
    if "continue_final_message" in engine:
        check_continued(engine, conversation)
    names = own["tools"].names if "tools" in own else ()
    return _checked(own, engine, conversation.texts, tool_names=names)


def check_detokenize(body: object, _: Limits) -> Checked:
    """Check a request of `/detokenize`, as orjson parsed it; raises InvalidRequest."""
    engine, own = DETOKENIZE.read(body)
    engine["tokens"] = own["tokens"]
    return _checked(own, engine, [])


def _of_prompt(engine: dict[str, Any], own: dict[str, Any]) -> Checked:
    if "prompt" not in own:
        raise faults.missing("prompt")
    for name in _OF_CHAT:
        if name in engine or name in own:
            raise faults.invalid(name, "it is only allowed with 'messages'.")
    engine["prompt"] = own["prompt"]
    return _checked(own, engine, [own["prompt"]])


def _checked(
    own: dict[str, Any],
    engine: dict[str, Any],
    texts: list[str],
    tool_names: tuple[str, ...] = (),
) -> Checked:
    return Checked(
        model=own["model"],
        stream=False,
        include_usage=False,
        n=1,
        engine_body=engine,
        max_output_tokens=None,
        prompts=(texts,),
        prompt_bytes=sum(len(text.encode()) for text in texts),
        tool_names=tool_names,
    )
