"""`/v1/models` and `/v1/models/{id}`: what this site serves, by every name it answers to."""

from typing import Any

from fastapi import APIRouter, Request

from serve.admission.authenticate import Authenticator
from serve.pipeline import Pipeline, Served


def model_object(name: str, served: Served) -> dict[str, Any]:
    """OpenAI's Model object. `created` is the snapshot's date and does not move."""
    return {
        "id": name,
        "object": "model",
        "created": served.created_s,
        "owned_by": "inhouse",
    }


def router(pipeline: Pipeline, authenticator: Authenticator) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        authenticator.authenticate(request.scope["headers"])
        data = [model_object(name, one) for one in pipeline.served for name in one.model.names]
        return {"object": "list", "data": data}

    @routes.get("/v1/models/{name:path}")
    async def retrieve_model(request: Request, name: str) -> dict[str, Any]:
        authenticator.authenticate(request.scope["headers"])
        return model_object(name, pipeline.resolve(name))

    return routes
