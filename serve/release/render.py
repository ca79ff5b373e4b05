"""A plan for a person and for a program."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from serve.engines.memory import in_words
from serve.release.plan import Kind, Plan, Step, Way

WIDTH_CHARS = 118


def table(plan: Plan) -> Table:
    """The steps, one row each."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("step", "model", "how", "memory", "requests wait", "why"):
        shown.add_column(title, overflow="fold")
    for step in plan.steps:
        why = "\n".join(step.reasons)
        shown.add_row(step.kind, _named(step), _how(step), _memory(step), wait_of(step), why)
    return shown


def lines(plan: Plan) -> list[str]:
    """The whole plan as text."""
    told = io.StringIO()
    console = Console(file=told, width=WIDTH_CHARS, no_color=True, markup=False, highlight=False)
    console.print(table(plan))
    text = [line.rstrip() for line in told.getvalue().splitlines()]
    text += [f"at once: {one}" for one in plan.at_once]
    text += [f"later:   {one}" for one in plan.later]
    text += [f"refused: {one}" for one in plan.refused]
    return [*text, summary(plan)]


def summary(plan: Plan) -> str:
    """One line that says what would happen."""
    if plan.refused:
        return "this site cannot be applied to the running server"
    if not plan.changes:
        return "no model changes" if plan.at_once or plan.later else "nothing to change"
    counts = [
        f"{count} to {kind}"
        for kind in Kind
        if kind is not Kind.KEEP and (count := sum(one.kind is kind for one in plan.steps))
    ]
    kept = sum(one.kind is Kind.KEEP for one in plan.steps)
    return ", ".join([*counts, *([f"{kept} kept"] if kept else [])])


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON, with its text."""
    return {
        "steps": [_step(step) for step in plan.steps],
        "at_once": list(plan.at_once),
        "later": list(plan.later),
        "refused": list(plan.refused),
        "text": lines(plan),
    }


def wait_of(step: Step) -> str:
    """For how long requests for the model are expected to wait."""
    if step.interruption_s is None:
        return "for its start (not measured yet)"
    return "no" if step.interruption_s == 0 else f"about {step.interruption_s:.0f} s"


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.kind,
        "model": step.model_id,
        "was": step.was,
        "why": list(step.reasons),
        "way": step.way,
        "after_stopping": list(step.after_stopping),
        "evicts": list(step.evicts),
        "needs_bytes": dict(step.needs),
        "free_bytes": dict(step.free),
        "interruption_s": step.interruption_s,
        "eval_sets": step.eval_sets,
    }


def _named(step: Step) -> str:
    if step.was is None or step.was == step.model_id:
        return step.model_id
    return f"{step.was} → {step.model_id}"


def _how(step: Step) -> str:
    if step.kind is Kind.STOP:
        return "once its requests have ended"
    if step.way is Way.NONE:
        return "when first asked for" if step.kind in (Kind.START, Kind.REPLACE) else ""
    parts = []
    if step.after_stopping:
        parts.append(f"after stopping {', '.join(step.after_stopping)}")
    elif step.kind is Kind.REPLACE:
        parts.append("beside the old one")
    if step.evicts:
        parts.append(f"putting out {', '.join(step.evicts)}")
    if step.eval_sets:
        parts.append("evaluated first")
    return ", ".join(parts)


def _memory(step: Step) -> str:
    return in_words(step.needs) if step.needs else ""
