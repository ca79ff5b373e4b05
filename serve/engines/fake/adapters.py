"""LoRA adapters of a fake engine: vLLM's routes and words, and no weights."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Refusal(Exception):
    """An order that cannot be carried out, with its status and vLLM's name for the error."""

    status: int
    kind: str
    message: str


@dataclass(slots=True)
class Adapters:
    """What is loaded: name → path."""

    base: str
    rank_max: int
    paths: dict[str, str] = field(default_factory=dict)

    def load(self, order: dict[str, Any]) -> str:
        """Answer `POST /v1/load_lora_adapter`. Raises Refusal."""
        name, path = order.get("lora_name"), order.get("lora_path")
        if not name or not path:
            words = "Both 'lora_name' and 'lora_path' must be provided."
            raise Refusal(400, "InvalidUserInput", words)
        if name == self.base:
            words = f"The lora adapter '{name}' conflicts with a served base model."
            raise Refusal(400, "InvalidUserInput", words)
        if name in self.paths and not order.get("load_inplace"):
            words = f"The lora adapter '{name}' has already been loaded."
            raise Refusal(400, "InvalidUserInput", words)
        self._refuse_unfit(name, Path(path))
        self.paths[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, order: dict[str, Any]) -> str:
        """Answer `POST /v1/unload_lora_adapter`. Raises Refusal."""
        name = order.get("lora_name")
        if not name:
            words = "'lora_name' needs to be provided to unload a LoRA adapter."
            raise Refusal(400, "InvalidUserInput", words)
        if self.paths.pop(name, None) is None:
            raise Refusal(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _refuse_unfit(self, name: str, path: Path) -> None:
        try:
            rank = json.loads((path / "adapter_config.json").read_text()).get("r", 0)
        except (OSError, ValueError):
            words = f"Loading lora {name} failed: No adapter found for {path}"
            raise Refusal(404, "NotFoundError", words) from None
        if rank > self.rank_max:
            words = f"LoRA rank {rank} is greater than max_lora_rank {self.rank_max}."
            raise Refusal(500, "InternalServerError", words)

    def cards(self) -> list[dict[str, Any]]:
        """Their entries in `/v1/models`."""
        return [
            {"id": name, "object": "model", "root": path, "parent": self.base}
            for name, path in self.paths.items()
        ]
