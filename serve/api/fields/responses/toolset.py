"""The tools of a Responses request, checked."""

from dataclasses import dataclass, field

from serve.api.fields.messages import JSON


@dataclass(slots=True)
class Toolset:
    """Checked tools: as the engine takes them, and as the response object repeats them.

    `kinds` are `function` or `custom` by the name that the model is shown; `spaces` has the
    namespace and the name in it of those that are in one.
    """

    engine: list[JSON] = field(default_factory=list)
    shown: list[JSON] = field(default_factory=list)
    server: list[JSON] = field(default_factory=list)
    strict: dict[str, JSON] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    spaces: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def custom(self) -> frozenset[str]:
        """The names whose input is free text."""
        return frozenset(name for name, kind in self.kinds.items() if kind == "custom")

    def only(self, names: frozenset[str], labels: frozenset[str]) -> "Toolset":
        """The same with fewer tools and servers for the model."""
        return Toolset(
            engine=[tool for tool in self.engine if tool["function"]["name"] in names],
            shown=self.shown,
            server=[tool for tool in self.server if tool["server_label"] in labels],
            strict={name: schema for name, schema in self.strict.items() if name in names},
            kinds={name: kind for name, kind in self.kinds.items() if name in names},
            spaces=self.spaces,
        )
