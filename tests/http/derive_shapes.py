"""Derive `openai_shapes.json` from OpenAI's OpenAPI file.

`python -m tests.http.derive_shapes openapi.json SOURCE > tests/http/openai_shapes.json`

What is kept are facts that an answer can be held against: which keys an object has and must have,
of which types, and between which objects it is a choice. Texts, examples and bounds are left out,
and so is what no answer of ours reaches: hosted tools, audio, requests.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOTS = (
    "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "ChatCompletionList",
    "ChatCompletionDeleted", "ChatCompletionMessageList", "CreateCompletionResponse",
    "CreateEmbeddingResponse", "ListModelsResponse", "Model", "OpenAIFile", "ListFilesResponse",
    "DeleteFileResponse", "Upload", "UploadPart", "Batch", "ListBatchesResponse", "Response",
    "ResponseStreamEvent", "ResponseItemList", "TokenCountsResource", "CompactResource",
    "ConversationResource", "ConversationItemList", "ConversationItem",
    "DeletedConversationResource", "ErrorResponse",
)  # fmt: skip
ELSEWHERE = re.compile(
    r"Audio|CodeInterpreter|WebSearch|FileSearch|ImageGen|Computer|Shell|ApplyPatch|ToolSearch"
    r"|Program|Moderation|ModelIds|Prompt$|Skill|Container"
)
KEPT = ("type", "enum", "const", "required", "properties", "items", "anyOf", "$ref")


def reduced(schema: Any) -> Any:
    """The facts of one schema."""
    found = _facts(schema)
    # The word is OpenAPI 3.0's; the file has it beside 3.1's types.
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") else found


def _facts(schema: Any) -> Any:
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: reduced(one) for name, one in value.items()}
        elif key in ("anyOf", "oneOf"):
            # Told apart by their types, which not all of them say exclusively.
            found["anyOf"] = [reduced(one) for one in value if not _elsewhere(one)]
        elif key == "allOf":
            found[key] = [reduced(one) for one in value if not _elsewhere(one)]
        elif key == "items":
            found[key] = {} if _elsewhere(value) else reduced(value)
        elif key == "$ref":
            if _elsewhere(schema):
                return {}
            found[key] = "#/$defs/" + value.rpartition("/")[2]
        elif key in KEPT:
            found[key] = value
    return found


def _elsewhere(schema: Any) -> bool:
    return ELSEWHERE.search(schema.get("$ref", "").rpartition("/")[2]) is not None


def derive(openapi: Any) -> dict[str, Any]:
    """Every schema that the roots reach."""
    schemas = openapi["components"]["schemas"]
    found: dict[str, Any] = {}
    todo = list(ROOTS)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = reduced(schemas[name])
            todo += re.findall(r'"#/\$defs/(\w+)"', json.dumps(found[name]))
    return dict(sorted(found.items()))


def written(source: str, shapes: dict[str, Any]) -> str:
    """One schema a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(one)}" for name, one in shapes.items()]
    joined = ",\n".join(lines)
    return f'{{"source": {json.dumps(source)},\n"$defs": {{\n{joined}\n}}}}\n'


if __name__ == "__main__":
    sys.stdout.write(written(sys.argv[2], derive(json.loads(Path(sys.argv[1]).read_text()))))
