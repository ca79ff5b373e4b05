"""The site file: everything one installation serves, and its bounds."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from serve.settings.audit import Audit
from serve.settings.batches import Batches, Files
from serve.settings.consistency import of_door, of_models, of_routes, of_tool_servers
from serve.settings.idempotency import Idempotency
from serve.settings.limits import Limits as TenantLimits
from serve.settings.model import Placement, ServedModel
from serve.settings.operation import Admin, Memory, Reload
from serve.settings.prices import Prices, of_prices
from serve.settings.routes import Route
from serve.settings.state import State
from serve.settings.terms import IN_WORDS, Frozen, ModelName, is_loopback
from serve.settings.toolservers import ToolServer

Host = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9.:_-]{1,253}$",
        json_schema_extra={IN_WORDS: "an IP address or host name"},
    ),
]


class Listen(Frozen):
    """The one door of the server."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0` is every address of the machine.",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="TCP port.")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the door; no name is looked up."""
        return is_loopback(self.host)


class Auth(Frozen):
    """Who may ask."""

    mode: Literal["keys", "none"] = Field(
        default="keys",
        description="`keys`: requests carry a key (`inhouse keys add`); `none`: anyone, on a "
        "loopback address only.",
    )


class Limits(Frozen):
    """Bounds on what one request, and all requests together, may take."""

    body_mib: float = Field(default=8, gt=0, le=1024, description="Largest request body, in MiB.")
    queue_requests: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Requests in hand per model, those that wait included; when there are more, "
        "the tenant with the most for its weight is refused (503).",
    )
    queue_tokens: int = Field(
        default=4_000_000,
        ge=1,
        le=10**12,
        description="The same for the tokens, prompts and likely answers, of those that wait.",
    )
    queue_wait_s: float = Field(
        default=600,
        gt=0,
        le=86_400,
        description="Seconds that a request waits for its turn before it is refused (503).",
    )
    order: Literal["fair", "arrival"] = Field(
        default="fair",
        description="Who is next where requests wait: tenants in proportion to their weights, or "
        "whoever came first. Counts from the start of the server.",
    )
    each_tenant: TenantLimits = Field(
        default=TenantLimits(),
        description="What bounds every tenant that has no limits of its own, field by field.",
    )
    ready_wait_s: float = Field(
        default=120,
        ge=0,
        le=3600,
        description="Seconds that a request waits for a model that starts or restarts before it "
        "is refused (503).",
    )
    waiting_requests: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Requests that may wait for one model to be loaded; more are refused (503).",
    )
    choices: int = Field(default=16, ge=1, le=128, description="Largest `n` of one request.")
    prompts: int = Field(
        default=128,
        ge=1,
        le=2048,
        description="Largest number of prompts in one completions request.",
    )


class EngineDefaults(Frozen):
    """How engines are run."""

    kind: Literal["vllm", "fake"] = Field(
        default="vllm",
        description="`fake` answers without a model, for trying everything around it.",
    )
    profile: Literal["auto", "stock"] = Field(
        default="auto",
        description="`auto`: flags chosen for this machine (`inhouse doctor` explains them); "
        "`stock`: vLLM's own defaults.",
    )
    start_timeout_s: float = Field(
        default=900, gt=0, le=86_400, description="Seconds within which an engine must be ready."
    )
    drain_timeout_s: float = Field(
        default=30,
        ge=0,
        le=86_400,
        description="Seconds that running requests have when the server stops.",
    )
    standby: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Processes that wait with everything imported, to become the next engine "
        "that starts. Each holds about 0.6 GiB; none by default.",
    )
    hang_idle_s: float = Field(
        default=10,
        ge=1,
        le=86_400,
        description="Seconds within which an idle engine that makes no step is found and "
        "replaced, whatever its health route says.",
    )
    hang_loaded_s: float = Field(
        default=30,
        ge=1,
        le=86_400,
        description="The same for an engine with requests. A long prompt is no hang.",
    )
    progress_every_s: float = Field(
        default=1,
        ge=0.1,
        le=60,
        description="Seconds between two looks at an engine's progress; at most a fifth of the "
        "shorter of the two bounds above.",
    )


class Log(Frozen):
    """What the server writes to stderr; never prompts or answers."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="`json`: one object a line; `console`: for a person; `auto`: console at a "
        "terminal, else json.",
    )


class _Common(Frozen):
    """What the file says and the resolved site keeps."""

    site: str = Field(min_length=1, max_length=64, description="Name of this installation.")
    listen: Listen = Field(default=Listen(), description="Where clients reach the server.")
    auth: Auth = Field(default=Auth(), description="Who may ask.")
    engine_defaults: EngineDefaults = Field(
        default=EngineDefaults(), description="How engines are run."
    )
    limits: Limits = Field(
        default=Limits(), description="Bounds on what one request, and all together, may take."
    )
    memory: Memory = Field(default=Memory(), description="What engines may take.")
    routes: tuple[Route, ...] = Field(
        default=(),
        max_length=16,
        description="Names that pick a model by what a request asks; answers say what was chosen.",
    )
    tool_servers: tuple[ToolServer, ...] = Field(
        default=(),
        max_length=64,
        description="What this server may call for models that answer on `/v1/responses`.",
    )
    admin: Admin = Field(default=Admin(), description="The operator's own door.")
    reload: Reload = Field(default=Reload(), description="When a changed file is applied.")
    state: State = Field(default=State(), description="What is kept for clients.")
    files: Files = Field(default=Files(), description="Bounds on what clients upload.")
    batches: Batches = Field(default=Batches(), description="How batches are run.")
    idempotency: Idempotency = Field(
        default=Idempotency(), description="Results of requests with an `Idempotency-Key`."
    )
    audit: Audit = Field(default=Audit(), description="The log of what was done and answered.")
    prices: Prices = Field(default=Prices(), description="What tokens cost.")
    log: Log = Field(default=Log(), description="What the server logs.")
    var_dir: Path = Field(
        default=Path("var"),
        description="Folder for what the server writes: keys, sockets, caches. Relative to `root`.",
    )


class SiteFile(_Common):
    """A site file as written: entries of `models` are read and joined by `serve.settings.load`."""

    root: Path = Field(
        default=Path(),
        description="Folder that relative paths start from, itself relative to this file's; where "
        "the server is started does not matter.",
    )
    model_files: Path = Field(
        default=Path("../models"), description="Folder of the model files, relative to this file's."
    )
    models: tuple[dict[str, JsonValue], ...] = Field(
        min_length=1, max_length=64, description="The models that are served."
    )


class ModelUse(Placement):
    """An entry of `models` without what it overrides of the model file."""

    use: ModelName = Field(description="The model file: its name without `.yaml`.")


class Site(_Common):
    """A whole site, resolved: model files read and joined, paths absolute."""

    models: tuple[ServedModel, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = [
            *of_door(self.listen.loopback, self.auth.mode, self.listen.host),
            *of_models(self.models),
            *of_routes(self.routes, self.models),
            *of_tool_servers(self.tool_servers, self.models),
            *of_prices(self.prices, self.models),
        ]
        if wrong:
            raise ValueError("; ".join(conflict.text for conflict in wrong))
        return self
