"""This API as an OpenAPI 3.1 document, made of the tables that check requests.

`document` says it of the addresses that it is given; what it says of each is in `operations`, and
`objects`, `responses`, `messages` and `events` have what is answered.
"""

from serve.api.openapi.document import document
from serve.api.openapi.router import router

__all__ = ["document", "router"]
