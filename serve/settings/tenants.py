"""What an operator may say of a tenant and of a key."""

from typing import Annotated, Any, Final

from pydantic import Field

from serve.core.grant import Family, Grant
from serve.settings.limits import Limits
from serve.settings.terms import IN_WORDS, Frozen

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
NAME_IN_WORDS: Final = "a name of up to 64 letters, digits and `.`, `_`, `@`, `-`"
EXPIRES_MAX_S: Final = 253_402_300_799
"""The end of the year 9999."""
OVERLAP_MAX_S: Final = 90 * 86_400

Name = Annotated[str, Field(pattern=NAME_PATTERN, json_schema_extra={IN_WORDS: NAME_IN_WORDS})]
ModelPattern = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._:/@*?\[\]!-]{1,256}$",
        json_schema_extra={IN_WORDS: "a model's name, or a pattern with `*` and `?`"},
    ),
]
Expiry = Annotated[float, Field(gt=0, le=EXPIRES_MAX_S, allow_inf_nan=False)]
Lasting = Annotated[float, Field(gt=0, le=EXPIRES_MAX_S, allow_inf_nan=False)]
Overlap = Annotated[float, Field(ge=0, le=OVERLAP_MAX_S, allow_inf_nan=False)]


class Scopes(Frozen):
    """What a key is good for."""

    models: Annotated[tuple[ModelPattern, ...], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Names of models and routes, or patterns; without it, all."
    )
    endpoints: Annotated[tuple[Family, ...], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Endpoints; without it, all."
    )
    admin: bool = Field(default=False, description="Whether it administers tenants and keys.")

    @property
    def grant(self) -> Grant:
        """The same, as requests are held against it."""
        endpoints = None if self.endpoints is None else frozenset(self.endpoints)
        return Grant(self.models, endpoints, self.admin)


class TenantSettings(Frozen):
    """What a tenant has of its own besides limits."""

    cache_group: Name | None = Field(
        default=None,
        description="Tenants of one group find each other's prompts in an engine's cache; without "
        "it, a tenant finds its own only.",
    )
    audit_text: bool = Field(
        default=False,
        description="Whether prompts and answers are kept beside the audit log, as long as "
        "everything else of the tenant's, so that `inhouse replay` can run them again.",
    )


class TenantTerms(Frozen):
    """All that is said of a tenant."""

    limits: Limits = Field(
        default=Limits(), description="Its own limits; they go before the site's."
    )
    settings: TenantSettings = Field(default=TenantSettings(), description="The rest.")

    def kept(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Limits and settings as they are stored: what was said, and nothing else."""
        limits = self.limits.model_dump(mode="json", exclude_unset=True)
        return limits, self.settings.model_dump(mode="json", exclude_unset=True)
