"""How a message is to be made: thinking, effort, the form of the answer."""

from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import JSON
from serve.api.fields.schema import check_schema

BUDGET_MIN_TOKENS: Final = 1024
USER_ID_MAX_CHARS: Final = 1024
EDITS_MAX: Final = 16
EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Thinking:
    """`thinking`: `wanted` is None where the model decides."""

    wanted: bool | None
    budget_tokens: int | None = None
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """`output_config`: how hard the model thinks, and the schema its answer is held to."""

    effort: str | None = None
    schema: JSON | None = None


def read_thinking(value: Any, param: str) -> Thinking:
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    display = value.get("display")
    if display is not None and display not in ("summarized", "omitted"):
        raise faults.not_one_of(f"{param}.display", display, ("summarized", "omitted"))
    shown = display != "omitted"
    match value.get("type"):
        case "enabled":
            checks.keys(value, param, frozenset({"type", "budget_tokens", "display"}))
            budget = value.get("budget_tokens")
            if budget is None:
                raise faults.missing(f"{param}.budget_tokens")
            _BUDGET.run(budget, f"{param}.budget_tokens")
            return Thinking(True, budget, shown)
        case "disabled":
            checks.keys(value, param, frozenset({"type"}))
            return Thinking(False)
        case "adaptive":
            checks.keys(value, param, frozenset({"type", "display"}))
            return Thinking(None, None, shown)
        case None:
            raise faults.missing(f"{param}.type")
        case "between_tools":
            raise faults.unsupported_value(
                f"{param}.type", "between_tools", "a model thinks where its template lets it."
            )
        case other:
            raise faults.not_one_of(f"{param}.type", other, ("enabled", "disabled", "adaptive"))


_BUDGET: Final = checks.integer(BUDGET_MIN_TOKENS, checks.INT32_MAX)


def read_output_config(value: Any, param: str) -> Output:
    checks.keys(value, param, frozenset({"effort", "format", "task_budget"}))
    if value.get("task_budget") is not None:
        raise faults.unsupported(f"{param}.task_budget", "bound the answer with `max_tokens`.")
    effort = value.get("effort")
    if effort is not None:
        checks.one_of(*EFFORTS).run(effort, f"{param}.effort")
    form = value.get("format")
    return Output(effort, None if form is None else read_output_format(form, f"{param}.format"))


def read_output_format(value: Any, param: str) -> JSON:
    checks.keys(value, param, frozenset({"type", "schema"}))
    for key in ("type", "schema"):
        if value.get(key) is None:
            raise faults.missing(f"{param}.{key}")
    if value["type"] != "json_schema":
        raise faults.not_one_of(f"{param}.type", value["type"], ("json_schema",))
    return check_schema(value["schema"], f"{param}.schema")


def check_metadata(value: Any, param: str) -> None:
    checks.keys(value, param, frozenset({"user_id"}))
    if value.get("user_id") is not None:
        checks.text(value["user_id"], f"{param}.user_id", USER_ID_MAX_CHARS)


def check_diagnostics(value: Any, param: str) -> None:
    checks.keys(value, param, frozenset({"previous_message_id"}))


def read_context_management(value: Any, param: str) -> bool:
    """Edits that change nothing where the chat template already decides."""
    checks.keys(value, param, frozenset({"edits"}))
    path = f"{param}.edits"
    edits = value.get("edits")
    for place, edit in enumerate(checks.array([] if edits is None else edits, path, EDITS_MAX)):
        if type(edit) is not dict:
            raise faults.wrong_type(f"{path}[{place}]", "an object", edit)
        if edit.get("type") != "clear_thinking_20251015":
            raise faults.unsupported_value(
                f"{path}[{place}].type", edit.get("type"), "conversations are not edited here."
            )
    return True
