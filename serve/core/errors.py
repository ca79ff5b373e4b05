"""The error tree. `serve.api.errors` is the only place that turns it into HTTP.

InhouseError
├── SettingsError                 a site or model file is wrong (command line: exit code 2)
├── SetupError                    the machine lacks something (command line: exit code 3)
└── RequestError                  a request cannot be answered; reaches the client
    ├── InvalidRequest            the request itself is wrong
    │   ├── ContextLengthExceeded
    │   └── PayloadTooLarge
    ├── Unauthenticated
    │   ├── KeyExpired
    │   └── KeyRevoked
    ├── PermissionDenied
    ├── NotFound
    │   └── ModelNotFound
    ├── MethodNotAllowed
    ├── Conflict                  something else is under way, or the state forbids it
    │   └── InFlight              the same request is being answered (`retry_after_s`)
    ├── KeyReused                 an idempotency key of another request
    ├── RateLimited               the tenant's own limits leave no room (`retry_after_s`)
    │   └── TokensLimited
    ├── BudgetSpent               the tenant has spent what it may
    ├── Overloaded                ask again later (`retry_after_s`)
    │   ├── Shed                  too much waits for the model
    │   └── Draining
    ├── StorageUnavailable        what is kept cannot be read or written now (`retry_after_s`)
    └── EngineError               the model process failed this request
        └── EngineUnavailable     it is not ready (`retry_after_s`)
"""


class InhouseError(Exception):
    """Base of everything this package raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SettingsError(InhouseError):
    """A settings file is wrong; the message names file, line, field and fix."""


class SetupError(InhouseError):
    """The machine or installation lacks something; the message says what and how to fix it."""


class RequestError(InhouseError):
    """A request that ends without a result.

    `param` is the dotted path of the field at fault, `code` a stable machine-readable word.
    """

    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code


class InvalidRequest(RequestError):
    """A field is missing, of the wrong type, out of bounds, unknown or not supported here."""


class ContextLengthExceeded(InvalidRequest):
    """The prompt and the tokens asked for do not fit the model's context."""

    code = "context_length_exceeded"


class PayloadTooLarge(InvalidRequest):
    """The body is larger than `limits.body_mib`."""

    code = "request_too_large"


class Unauthenticated(RequestError):
    """No key, or one this site does not know."""

    code = "invalid_api_key"


class KeyExpired(Unauthenticated):
    """The key was good until its time was over."""

    code = "key_expired"


class KeyRevoked(Unauthenticated):
    """The key has been withdrawn, perhaps while it was being answered."""

    code = "key_revoked"


class PermissionDenied(RequestError):
    """The key is known and may not do this."""

    code = "permission_denied"


class NotFound(RequestError):
    """Nothing is served under this address."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No model, alias or snapshot of this name is served."""

    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The address exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class Conflict(RequestError):
    """What is asked does not go together with what is being done, or with the present state."""

    code = "conflict"


class InFlight(Conflict):
    """The request is being answered already, to whoever sent it first."""

    code = "idempotency_key_in_flight"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, param="Idempotency-Key")
        self.retry_after_s = retry_after_s


class KeyReused(RequestError):
    """An idempotency key names one request, and this is another."""

    code = "idempotency_key_reused"


class RateLimited(RequestError):
    """The tenant has taken what its limits allow for now; None: waiting will not help."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TokensLimited(RateLimited):
    """It is tokens that are bounded."""


class BudgetSpent(RequestError):
    """The tenant's budget for this period is spent."""

    code = "insufficient_quota"


class Overloaded(RequestError):
    """Too much is waiting already; the request was not started."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Shed(Overloaded):
    """More waits for this model than it can serve in time."""


class Draining(Overloaded):
    """The server is stopping and takes no new work."""

    code = "server_draining"


class StorageUnavailable(RequestError):
    """The database or the disk cannot do it now; nothing half-done is left."""

    code = "storage_unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineError(RequestError):
    """The model process failed while it worked on this request."""

    code = "engine_error"


class EngineUnavailable(EngineError):
    """The model process is not ready: starting, replaced after a crash, or failed."""

    code = "model_not_ready"

    def __init__(self, message: str, *, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
