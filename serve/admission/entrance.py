"""One request's way in: its tenant's limits, its budget, its place in the line; and out again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.admission.estimate import Estimate, Estimator, cost_of
from serve.admission.gate import Gate
from serve.admission.line import Capacity, Flow, Line, Place
from serve.admission.quotas import Quotas, Reservation
from serve.admission.tenants import Budgets, TenantLimits
from serve.core.call import Call, Standing
from serve.core.errors import InvalidRequest, RequestError, Shed
from serve.core.usage import Usage
from serve.settings.limits import Limits, Tier

Told = Callable[[Shed | None], None]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a request asks for: a model by its file's name, and what its engines can do.

    `line` names those that share them; `generates`: an answer is written, and takes tokens too.
    """

    line: str
    model: str
    context_tokens: int
    capacity: Capacity
    generates: bool = True


@dataclass(slots=True, eq=False)
class Ticket:
    """An admitted request, until it leaves."""

    line: Line
    place: Place
    reservation: Reservation
    estimator: Estimator
    estimate: Estimate
    size_bytes: int
    choices: int
    standing: Standing
    """Of its tenant's limits, once it was in."""


@dataclass
class Entrance:
    """Who may come in. `leave` with each ticket that `enter` gives."""

    gate: Gate
    quotas: Quotas = field(default_factory=lambda: Quotas(time.monotonic))
    limits: TenantLimits = field(default_factory=TenantLimits)
    budgets: Budgets = field(default_factory=Budgets)
    _estimators: dict[tuple[str, str], Estimator] = field(default_factory=dict)

    def tier(self, tenant: str, asked: str | None) -> Tier:
        """The tier that a request is served in."""
        allowed = self.limits.of(tenant).tiers
        return next((one for one in allowed if one == asked), "default")

    def context_tokens(self, tenant: str, model: str) -> int | None:
        """The most of a context that a tenant may use, where its limits say."""
        limits = self.limits.of(tenant)
        own = limits.models.get(model)
        bounds = (limits.context_tokens, own.context_tokens if own is not None else None)
        return min((one for one in bounds if one is not None), default=None)

    def standing(self, call: Call, goal: Goal) -> Standing:
        """Of its tenant's limits now."""
        tenant = call.principal.tenant
        return self.quotas.standing(tenant, self.limits.of(tenant), goal.model)

    def enter(
        self, call: Call, goal: Goal, size_bytes: int, told: Told, *, background: bool
    ) -> Ticket:
        """Take a request in hand; `told` when its turn comes, unless it has come already.

        `size_bytes` is that of its body. Raises InvalidRequest for what its tenant may never ask
        for, RateLimited, BudgetSpent, Draining, and Shed where too much waits; nothing of it
        counts then.
        """
        tenant = call.principal.tenant
        limits = self.limits.of(tenant)
        self.budgets.check(tenant, limits.budget)
        _refuse_fanning_out(call, limits, goal.model)
        estimator = self._estimators.setdefault((tenant, goal.model), Estimator())
        estimate = estimator.estimate(
            size_bytes, call.choices if goal.generates else 0, _bound_of(call), goal.context_tokens
        )
        reservation = self.quotas.reserve(tenant, limits, goal.model, estimate)
        standing = self.quotas.standing(tenant, limits, goal.model)
        line = self.gate.line(goal.line)
        line.changed(goal.capacity)
        flow = Flow(tenant, flex=background or call.tier == "flex")
        try:
            self.gate.enter(call.model_id, background=background)
            try:
                place = line.enter(
                    flow, limits.weight, estimate.cost, told, ahead=call.tier == "priority"
                )
            except Shed:
                self.gate.leave(call.model_id, background=background)
                raise
        except RequestError:
            self.quotas.cancel(reservation)
            raise
        return Ticket(
            line, place, reservation, estimator, estimate, size_bytes, max(1, call.choices),
            standing,
        )  # fmt: skip

    def leave(self, call: Call, ticket: Ticket, usage: Usage | None, *, background: bool) -> None:
        """The request has ended: it took `usage`, or nobody knows what."""
        if not ticket.place.running:  # it was sent away, or left, before its turn
            self.cancel(call, ticket, background=background)
            return
        self.quotas.settle(ticket.reservation, usage)
        took = None
        if usage is not None:
            ticket.estimator.learn(ticket.size_bytes, ticket.choices, usage)
            took = cost_of(usage)
        ticket.line.leave(ticket.place, took)
        self.gate.leave(call.model_id, background=background)

    def cancel(self, call: Call, ticket: Ticket, *, background: bool) -> None:
        """The request is not run after all; nothing of it counts."""
        self.quotas.cancel(ticket.reservation)
        ticket.line.leave(ticket.place, 0.0)
        self.gate.leave(call.model_id, background=background)


def _refuse_fanning_out(call: Call, limits: Limits, model: str) -> None:
    """Refuse an `n` that the tenant may not ask for."""
    n = call.body.get("n") or 1
    for bounds in (limits, limits.models.get(model)):
        if bounds is not None and bounds.choices is not None and n > bounds.choices:
            raise InvalidRequest(
                f"Invalid 'n': {n} choices are asked for, and your limits allow at most "
                f"{bounds.choices} (choices).",
                param="n",
                code="integer_above_max_value",
            )


def _bound_of(call: Call) -> int | None:
    """The longest that a choice of the answer may be, where the request says so."""
    bound: int | None = call.max_output_tokens or call.body.get("max_completion_tokens")
    return bound
