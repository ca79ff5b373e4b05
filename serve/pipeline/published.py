"""Which model a name means now, and for whom."""

import difflib
from collections.abc import Callable
from dataclasses import replace

from serve.admission.routes import Facts, choose
from serve.core.call import Call, Principal
from serve.core.errors import ModelNotFound
from serve.served import Served
from serve.settings.routes import Route


class Published:
    """What is served, by name."""

    def __init__(self, served: tuple[Served, ...], routes: tuple[Route, ...]) -> None:
        self.publish(served, routes)

    def publish(self, served: tuple[Served, ...], routes: tuple[Route, ...] | None = None) -> None:
        """From now on these are the models; requests in hand keep the one they were given.

        `routes` replaces the routes too, where it is given.
        """
        if routes is not None:
            self.routes = {route.name: route for route in routes}
        self._by_name = {
            name: one for base in served for one in (base, *base.adapters) for name in one.names
        }
        self.served = served

    def names_for(self, principal: Principal) -> tuple[str, ...]:
        """Every model name that this key may ask for."""
        grant = principal.grant
        if grant.models is None:
            return tuple(self._by_name)
        return tuple(n for n, one in self._by_name.items() if grant.covers((n, *one.names)))

    def routes_for(self, principal: Principal) -> tuple[Route, ...]:
        """The routes that this key may ask for."""
        grant = principal.grant
        return tuple(one for one in self.routes.values() if grant.covers((one.name,)))

    def resolve(self, name: str, principal: Principal) -> Served:
        """The model a client means; raises ModelNotFound, never picks another."""
        found = self._by_name.get(name)
        if found is None or not principal.grant.covers((name, *found.names)):
            raise self._not_found(name, principal)
        return found

    def route(self, name: str, facts: Callable[[], Facts], principal: Principal) -> Served:
        """As `resolve`, and where the name is a route's, the model that its rules pick.

        Who may ask a route may ask what it picks.
        """
        route = self.routes.get(name)
        if route is None:
            return self.resolve(name, principal)
        choice = choose(route, facts())
        found = self._by_name.get(choice.model)
        if found is None or not principal.grant.covers((name, choice.model, *found.names)):
            raise self._not_found(name, principal)
        return found.chosen_by(choice)

    def present(self, served: Served, call: Call) -> tuple[Served, Call]:
        """What the name that was asked means now, and the call as its."""
        now = self._by_name.get(call.asked) or self._by_name.get(served.id)
        if now is None or now.backend is served.backend:
            return served, call
        return now, replace(call, model_id=now.id, body={**call.body, "model": now.engine_model})

    def _not_found(self, name: str, principal: Principal) -> ModelNotFound:
        routes = (one.name for one in self.routes_for(principal))
        there = (*self.names_for(principal), *routes)
        near = difflib.get_close_matches(name[:200], there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if principal.grant.models is None:
            words, list_of = "does not exist here", "Served"
        else:
            words, list_of = "does not exist here or is not for this key", "The key is for"
        return ModelNotFound(
            f"The model {name[:200]!r} {words}.{hint} {list_of}: {', '.join(there) or 'none'}.",
            param="model",
        )
