"""Which of the generated SDKs' tests hold here, and why the others do not: what the page says."""

import re
from typing import Final

CHECKED: Final = {"openai-python 3.3.1": (698, 732), "openai-node 7.5.0": (60, 61)}
"""The releases that the page was checked with."""

_NO_DELETE: Final = "models are deleted by the operator, not through the API"

NOT_SERVED: Final = {
    "admin": "the hosted platform's organizations; keys and tenants are the site's",
    "audio": "no model of a site hears or speaks",
    "beta/assistants": "retired by its maker for `/v1/responses`",
    "beta/chatkit": "a product of the hosted platform",
    "beta/realtime": "sound over WebSocket",
    "beta/responses": "multi-agent responses, a beta of the hosted platform",
    "beta/threads": "part of Assistants",
    "containers": "machines of the hosted platform",
    "content_provenance_checks": "a product of the hosted platform",
    "evals": "models are evaluated before they are published: release.md",
    "fine_tuning": "models are trained elsewhere; adapters are the site's",
    "images": "no model of a site paints",
    "moderations": "no moderation model runs here",
    "realtime": "sound over WebSocket",
    "skills": "files for machines of the hosted platform",
    "vector_stores": "documents are searched by the client, with `/v1/embeddings`",
    "videos": "no model of a site films",
    "webhooks": "nothing is sent out of the site",
}
"""Folders and files of the tests, without `test_`, for what this server has not."""

APART_PYTHON: Final = {
    r"test_models\.py::.*(method|response)_delete\[": ("`models`: `delete`", _NO_DELETE),
    r"test_embeddings\.py::.*(method|response)_create\[strict\]": (
        "`embeddings`: `create` without an `encoding_format`, by the strict client",
        "the SDK asks for base64 by itself, and its strict client wants lists in the answer",
    ),
    r"chat/completions/test_messages\.py::.*(method|response)_list(_with_all_params)?\[strict\]": (
        "`chat/completions/messages`: `list`, by the strict client",
        "the SDK's type of a stored message has the assistant's role only, and the messages of a "
        "request are mostly others'",
    ),
    r"test_responses\.py::.*(method|response)_compact(_with_all_params)?\[strict\]": (
        "`responses`: `compact`, by the strict client",
        "the SDK's type of the output has no message of a user's, with which a compaction begins",
    ),
}
"""Tests of what is served that do not hold: a pattern of their names, what they are, and why."""

APART_NODE: Final = {
    r"models\.test\.ts::resource models delete$": ("openai-node, `models`: `delete`", _NO_DELETE)
}
"""The same for openai-node."""

_PAGE: Final = frozenset({"-after", "-limit"})
_OBFUSCATION: Final = "-stream_options.include_obfuscation"

CHANGES: Final = {
    "GET /v1/batches": _PAGE,
    "GET /v1/chat/completions": _PAGE,
    "GET /v1/chat/completions/{completion_id}/messages": _PAGE,
    "GET /v1/conversations/{conversation_id}/items": _PAGE,
    "GET /v1/files": _PAGE,
    "GET /v1/responses/{response_id}": {"-starting_after"},
    "GET /v1/responses/{response_id}/input_items": _PAGE,
    "POST /v1/chat/completions": {
        "-audio", "-function_call", "-functions", "-logit_bias.foo", "-max_completion_tokens",
        "-max_tokens", "-moderation", "-stream_options", _OBFUSCATION, "-verbosity",
        "-web_search_options",
    },
    "POST /v1/completions": {
        "-best_of", "-logit_bias.foo", "-stream_options", _OBFUSCATION, "-suffix",
    },
    "POST /v1/embeddings": {"-dimensions"},
    "POST /v1/files": {"purpose: assistants → user_data"},
    "POST /v1/responses": {
        "+input", "+model", "-context_management", "-max_tool_calls", "-moderation",
        "-previous_response_id", "-prompt", "-stream_options", _OBFUSCATION, "-text.verbosity",
        "-tools",
    },
    "POST /v1/responses/compact": {"+input"},
    "POST /v1/responses/input_tokens": {
        "+input", "+model", "-personality", "-previous_response_id", "-text.verbosity", "-tools",
    },
    "POST /v1/uploads": {"bytes: 0 → 1", "purpose: assistants → user_data"},
    "POST /v1/uploads/{upload_id}/complete": {"-md5"},
}  # fmt: skip
"""What had to be left out of the tests' requests, added to them, or sent in another's place."""


def served(path: str) -> bool:
    """Whether a file of tests, by its path under the suite, is for what this server has."""
    return not any(
        path_of(path) == one or path_of(path).startswith(f"{one}/") for one in NOT_SERVED
    )


def path_of(file: str) -> str:
    """A file of tests by what it is of, the same for both suites."""
    plain = file.removesuffix(".py").removesuffix(".test.ts").replace("-", "_")
    return re.sub(r"(^|/)test_", r"\1", plain)


def page() -> str:
    """The tables of docs/conformance.md."""
    lines = ["| release | tests for what is served | hold |", "| --- | --- | --- |"]
    lines += [f"| {release} | {tests} | {holds} |" for release, (holds, tests) in CHECKED.items()]
    lines += ["", "| endpoint | left out | added or replaced |", "| --- | --- | --- |"]
    for endpoint, made in CHANGES.items():
        out = ", ".join(f"`{one[1:]}`" for one in sorted(made) if one[0] == "-")
        other = ", ".join(f"`{one.lstrip('+')}`" for one in sorted(made) if one[0] != "-")
        lines.append(f"| `{endpoint}` | {out} | {other} |")
    lines += ["", "| tests | why they do not hold |", "| --- | --- |"]
    lines += [f"| {shown} | {why} |" for shown, why in (APART_PYTHON | APART_NODE).values()]
    lines += ["", "| not served | why |", "| --- | --- |"]
    lines += [f"| `{one}` | {why} |" for one, why in NOT_SERVED.items()]
    return "\n".join(lines) + "\n"
