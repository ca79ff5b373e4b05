"""What vLLM's own request models know, read without importing vLLM."""

import ast
import importlib.util
from pathlib import Path

import pytest


def vllm_fields(module: str, model: str) -> set[str]:
    """Names of the fields of one of vLLM's request models; skips where vLLM is not installed."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vllm is not installed here")
    source = Path(spec.origin).parent / "entrypoints" / "openai" / module / "protocol.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == model:
            return {
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
    raise AssertionError(f"{model} is not in {source.name}")
