"""What tenants have taken of their limits: reserved before, corrected after. Pure.

All windows are on one clock that only goes on (`serve.admission.steady`): the machine's clock may
jump as it likes, no window opens again before its time. Windows of a day are kept by
`serve.state.quotas`; those of a minute end with the process.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from serve.admission.estimate import Estimate
from serve.admission.window import DAY_S, MINUTE_S, Window
from serve.core.call import Standing
from serve.core.errors import RateLimited, TokensLimited
from serve.core.quota import Slot
from serve.core.usage import Usage
from serve.settings.limits import Bounds, Limits

EVERYTHING: Final = ""
"""The scope of what bounds all models of a tenant together."""
CONCURRENT_AGAIN_S: Final = 1.0

_SPANS: Final = {"minute": MINUTE_S, "day": DAY_S}
_UNBOUNDED: Final = Standing()


@dataclass(slots=True)
class _Taken:
    """What one request has of one window."""

    window: Window
    kind: str
    slot: int
    amount: int
    kept: Slot | None


@dataclass(slots=True)
class Reservation:
    """One request's part of its tenant's limits."""

    tenant: str
    scopes: tuple[str, ...]
    taken: list[_Taken] = field(default_factory=list)


class Quotas:
    """Every tenant's windows. `now_s` never goes back."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._windows: dict[tuple[str, str, str], Window] = {}
        self._in_hand: Counter[tuple[str, str]] = Counter()
        self._before: dict[tuple[str, str, str], dict[int, int]] = {}
        self._changes: Counter[Slot] = Counter()

    def load(self, rows: Iterable[tuple[Slot, int]]) -> None:
        """What was kept of the last day, before the first request."""
        for kept, amount in rows:
            slots = self._before.setdefault((kept.tenant, kept.scope, kept.kind), {})
            slots[kept.slot] = slots.get(kept.slot, 0) + amount

    def take_changes(self) -> dict[Slot, int]:
        """What has to be added to what is kept, since the last time."""
        changes, self._changes = self._changes, Counter()
        return {kept: amount for kept, amount in changes.items() if amount}

    def give_back(self, changes: Mapping[Slot, int]) -> None:
        """Changes that could not be kept: they are among the next."""
        self._changes.update(changes)

    def reserve(self, tenant: str, limits: Limits, model: str, asked: Estimate) -> Reservation:
        """Take a request's part; raises RateLimited, having taken nothing, where there is none."""
        scopes = _scopes(limits, model)
        reservation = Reservation(tenant, tuple(scope for scope, _ in scopes))
        now_s = self._now_s()
        amounts = {
            "requests": 1, "input_tokens": asked.input, "output_tokens": asked.output_most
        }  # fmt: skip
        for scope, bounds in scopes:
            self._check_concurrent(tenant, scope, bounds)
            for kind, name, window in self._bounded(tenant, scope, bounds):
                amount = amounts[kind]
                wait_s = window.room_in_s(amount, now_s)
                if wait_s != 0:
                    raise _refusal(kind, name, scope, window, amount, now_s, wait_s)
                kept = None
                if window.span_s == DAY_S:
                    kept = Slot(tenant, scope, kind, window.slot_at(now_s))
                slot = window.slot_at(now_s)
                reservation.taken.append(_Taken(window, kind, slot, amount, kept))
        for one in reservation.taken:
            one.window.put(one.slot, one.amount)
            if one.kept is not None:
                self._changes[one.kept] += one.amount
        for scope in reservation.scopes:
            self._in_hand[tenant, scope] += 1
        return reservation

    def settle(self, reservation: Reservation, usage: Usage | None) -> None:
        """The request has ended and took this; None where nobody can tell: what was reserved
        stays taken."""
        self._leave(reservation)
        if usage is None:
            return
        took = {"requests": 1, "input_tokens": usage.prompt, "output_tokens": usage.completion}
        for one in reservation.taken:
            self._change(one, took[one.kind] - one.amount)

    def cancel(self, reservation: Reservation) -> None:
        """The request was refused after all; nothing of it counts."""
        self._leave(reservation)
        for one in reservation.taken:
            self._change(one, -one.amount)

    def standing(self, tenant: str, limits: Limits, model: str) -> Standing:
        """How much is left of the tightest bounds on requests, and on tokens."""
        scopes = _scopes(limits, model)
        if not any(bounds.rates for _, bounds in scopes):
            return _UNBOUNDED
        now_s = self._now_s()
        found: dict[bool, tuple[float, Window]] = {}
        for scope, bounds in scopes:
            for kind, _, window in self._bounded(tenant, scope, bounds):
                left = window.left(now_s) / window.limit
                known = found.get(kind == "requests")
                if known is None or left < known[0]:
                    found[kind == "requests"] = (left, window)
        return Standing(*(_shown(found.get(requests), now_s) for requests in (True, False)))

    def _change(self, one: _Taken, delta: int) -> None:
        if delta:
            one.window.put(one.slot, delta)
            if one.kept is not None:
                self._changes[one.kept] += delta

    def _leave(self, reservation: Reservation) -> None:
        for scope in reservation.scopes:
            key = (reservation.tenant, scope)
            self._in_hand[key] -= 1
            if not self._in_hand[key]:
                del self._in_hand[key]

    def _check_concurrent(self, tenant: str, scope: str, bounds: Bounds) -> None:
        most = bounds.concurrent_requests
        if most is not None and self._in_hand[tenant, scope] >= most:
            raise RateLimited(
                f"Rate limit reached{_for(scope)}: {most} requests are in hand already "
                "(concurrent_requests). Try again when one has ended.",
                retry_after_s=CONCURRENT_AGAIN_S,
            )

    def _bounded(
        self, tenant: str, scope: str, bounds: Bounds
    ) -> Iterator[tuple[str, str, Window]]:
        """Each window that something bounds, with what it counts and its setting's name."""
        for name, limit in bounds.rates:
            kind, _, span = name.partition("_per_")
            span_s = _SPANS[span]
            key = (tenant, scope, name)
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = Window(span_s, limit)
                if span_s == DAY_S:
                    window.load(sorted(self._before.pop((tenant, scope, kind), {}).items()))
            window.limit = limit
            yield kind, name, window


def _scopes(limits: Limits, model: str) -> list[tuple[str, Bounds]]:
    scopes: list[tuple[str, Bounds]] = [(EVERYTHING, limits)]
    if model in limits.models:
        scopes.append((model, limits.models[model]))
    return scopes


def _shown(found: tuple[float, Window] | None, now_s: float) -> tuple[int, int, float] | None:
    if found is None:
        return None
    window = found[1]
    return window.limit, window.left(now_s), window.empty_in_s(now_s)


def _refusal(
    kind: str,
    name: str,
    scope: str,
    window: Window,
    amount: int,
    now_s: float,
    wait_s: float | None,
) -> RateLimited:
    cls = RateLimited if kind == "requests" else TokensLimited
    span = "minute" if window.span_s == MINUTE_S else "day"
    what = f"{window.limit:,} {kind.replace('_', ' ')} a {span} ({name})"
    if wait_s is None:
        return cls(
            f"Request too large{_for(scope)}: it needs about {amount:,} {kind.replace('_', ' ')}, "
            f"and no more than {what} are allowed. Shorten it, or ask for a shorter answer.",
            retry_after_s=None,
        )
    used = window.used(now_s)
    return cls(
        f"Rate limit reached{_for(scope)}: {what} are allowed, {used:,} are used and "
        f"{amount:,} asked for. Try again in {wait_s:,.0f} s.",
        retry_after_s=wait_s,
    )


def _for(scope: str) -> str:
    return f" for {scope}" if scope else ""
