"""Routes of the endpoints that are answered past the framework, for what it has to say of them."""

from collections.abc import Iterable, Mapping

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Scope


class _Sole(Route):
    """An address that is nothing else's, though it has the form of another's ids."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        # With another method too: what it answers is that there is none.
        return (Match.FULL if match is Match.PARTIAL else match), child


def posted(direct: Mapping[str, ASGIApp], others: Iterable[BaseRoute]) -> list[Route]:
    """Routes for POST of these addresses; `others` may have other methods of the same."""
    shared = {one.path for one in others if isinstance(one, Route)}
    return [
        (Route if path in shared else _Sole)(path, one, methods=["POST"])
        for path, one in direct.items()
    ]
