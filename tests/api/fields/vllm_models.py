"""What vLLM's own request models know, read without importing vLLM."""

import ast
import importlib.util
from pathlib import Path

import pytest


def vllm_fields(module: str, model: str) -> set[str]:
    """Names of the fields of one of vLLM's request models; skips where vLLM is not installed."""
    return own_fields(f"openai/{module}", model)


def own_fields(folder: str, *models: str) -> set[str]:
    """Names of the fields that these classes of a `protocol.py` declare themselves."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vllm is not installed here")
    source = Path(spec.origin).parent / "entrypoints" / folder / "protocol.py"
    classes = {
        node.name: node
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    assert set(models) <= classes.keys(), f"{models} are not all in {folder}"
    return {
        item.target.id
        for model in models
        for item in classes[model].body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
