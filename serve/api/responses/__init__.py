"""`/v1/responses`: turns that this server keeps."""

from serve.api.responses.compact import CompactEndpoint
from serve.api.responses.create import ResponsesEndpoint
from serve.api.responses.kept import router
from serve.api.responses.socket import Sockets
from serve.api.responses.tokens import InputTokensEndpoint

__all__ = ["CompactEndpoint", "InputTokensEndpoint", "ResponsesEndpoint", "Sockets", "router"]
