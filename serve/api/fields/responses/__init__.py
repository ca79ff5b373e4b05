"""The fields of the Responses API, and its items as the API shows them."""

from serve.api.fields.responses.items import read_items
from serve.api.fields.responses.request import check_compact, check_input_tokens, check_response
from serve.api.fields.responses.table import COMPACT, INPUT_TOKENS, RESPONSE

__all__ = [
    "COMPACT",
    "INPUT_TOKENS",
    "RESPONSE",
    "check_compact",
    "check_input_tokens",
    "check_response",
    "read_items",
]
