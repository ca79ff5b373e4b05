"""Loaded by vLLM in each of its processes (`vllm.general_plugins`): none outlives its parent."""

import multiprocessing
import os

from serve.engines.mortality import die_with_parent


def register() -> None:
    """Tie this process to the one that started it, where it is part of an engine of ours."""
    parent = multiprocessing.parent_process()
    if "INHOUSE_ENGINE" in os.environ and parent is not None:
        die_with_parent(parent.pid)
