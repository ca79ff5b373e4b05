"""`/v1/models` and `/v1/models/{id}`: what this site serves, by every name it answers to."""

from typing import Any

from fastapi import APIRouter, Request

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.pipeline import Pipeline
from serve.served import Served
from serve.settings.routes import Route


def model_object(name: str, served: Served) -> dict[str, Any]:
    """OpenAI's Model object, and under one key of our own what else is known of the model.

    `created` is the snapshot's date and does not move.
    """
    return {
        "id": name,
        "object": "model",
        "created": served.created_s,
        "owned_by": "inhouse",
        "inhouse": served.about,
    }


def route_object(route: Route, pipeline: Pipeline) -> dict[str, Any]:
    """A route as a model that says of itself what it stands for."""
    rules = [{"name": rule.name, "model": rule.model} for rule in route.rules]
    return {
        "id": route.name,
        "object": "model",
        "created": max(one.created_s for one in pipeline.served),
        "owned_by": "inhouse",
        "inhouse": {"route": {"rules": rules, "otherwise": route.otherwise}},
    }


def router(pipeline: Pipeline, authenticator: Authenticator) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        principal = authenticator.authenticate(request.scope["headers"])
        query.only(request.scope)
        data = [
            model_object(name, pipeline.resolve(name, principal))
            for name in pipeline.names_for(principal)
        ]
        data += [route_object(one, pipeline) for one in pipeline.routes_for(principal)]
        return {"object": "list", "data": data}

    @routes.get("/v1/models/{name:path}")
    async def retrieve_model(request: Request, name: str) -> dict[str, Any]:
        principal = authenticator.authenticate(request.scope["headers"])
        query.only(request.scope)
        for route in pipeline.routes_for(principal):
            if route.name == name:
                return route_object(route, pipeline)
        return model_object(name, pipeline.resolve(name, principal))

    return routes
