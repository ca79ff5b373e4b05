"""Lines of the files of results (OpenAI API reference, the request output object). Pure."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from serve.batch.ports import Answer
from serve.state.batches import Result
from serve.state.records import JSON

NOT_RUN = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "The batch was cancelled before this request was executed.",
}


@dataclass(slots=True)
class Tokens:
    """The sum of what the lines of a batch used."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def add(self, usage: JSON) -> None:
        """Count a usage object of any endpoint that batches run."""
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
        thoughts = (
            usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
        )
        self.input += usage.get("prompt_tokens") or usage.get("input_tokens") or 0
        self.output += usage.get("completion_tokens") or usage.get("output_tokens") or 0
        self.cached += details.get("cached_tokens") or 0
        self.reasoning += thoughts.get("reasoning_tokens") or 0

    @property
    def shown(self) -> JSON:
        """The batch object's `usage`."""
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.input + self.output,
        }


@dataclass(slots=True)
class Sorted:
    """Lines for the two files, and how many were never run."""

    completed: list[bytes] = field(default_factory=list)
    failed: list[bytes] = field(default_factory=list)
    not_run: int = 0


def answered(custom_id: str, answer: Answer) -> bytes:
    """The line of a request that was answered, with whatever status."""
    response = {
        "status_code": answer.status,
        "request_id": answer.request_id,
        "body": answer.body,
    }
    return _line(custom_id, response, None)


def not_run(custom_id: str, code: str) -> bytes:
    """The line of a request that was not run; `code` says why."""
    return _line(custom_id, None, {"code": code, "message": NOT_RUN[code]})


def sort(results: Iterable[Result], code: str, tokens: Tokens) -> Sorted:
    """What goes where; those without a result were not run for the reason that `code` names."""
    found = Sorted()
    for one in results:
        if one.result is None:
            found.not_run += 1
            found.failed.append(not_run(one.custom_id, code))
        elif one.failed:
            found.failed.append(one.result)
        else:
            found.completed.append(one.result)
            body = orjson.loads(one.result)["response"]["body"]
            tokens.add((body.get("usage") if isinstance(body, dict) else None) or {})
    return found


def _line(custom_id: str, response: Any, error: Any) -> bytes:
    line = {
        "id": f"batch_req_{os.urandom(16).hex()}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(line) + b"\n"
