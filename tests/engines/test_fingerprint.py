from pathlib import Path
from typing import Any

import pytest

from serve.engines.fingerprint import engine_version, fingerprint
from serve.settings.model import ModelConfig

GIVEN: dict[str, Any] = {"name": "m", "source": {"path": Path("w")}, "context_tokens": 64}


def config(**fields: Any) -> ModelConfig:
    return ModelConfig.model_validate(GIVEN | fields)


PLAIN = fingerprint(config(), "sha256:a", "vllm 1")


def test_it_is_short_and_stable() -> None:
    assert PLAIN.startswith("fp_")
    assert len(PLAIN) == 15
    assert fingerprint(config(), "sha256:a", "vllm 1") == PLAIN


@pytest.mark.parametrize(
    "other",
    [
        (config(), "sha256:b", "vllm 1"),
        (config(), None, "vllm 1"),
        (config(), "sha256:a", "vllm 2"),
        (config(), "sha256:a", "vllm 1", "sha256:c"),
        (config(dtype="float32"), "sha256:a", "vllm 1"),
        (config(sampling={"top_k": 1}), "sha256:a", "vllm 1"),
        (config(engine_args={"enforce-eager": True}), "sha256:a", "vllm 1"),
    ],
)
def test_what_bears_on_answers_changes_it(other: Any) -> None:
    assert fingerprint(*other) != PLAIN


@pytest.mark.parametrize(
    "fields", [{"name": "n"}, {"source": {"path": Path("elsewhere")}}, {"devices": (1,)}]
)
def test_names_and_places_do_not(fields: dict[str, Any]) -> None:
    assert fingerprint(config(**fields), "sha256:a", "vllm 1") == PLAIN


def test_a_template_is_bound_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jinja", tmp_path / "b.jinja"
    for path in (first, second):
        path.write_text("{{ messages }}")
    made = [fingerprint(config(chat_template=one), None, "x") for one in (first, second)]
    assert made[0] == made[1]
    second.write_text("{{ messages[0] }}")
    assert fingerprint(config(chat_template=second), None, "x") != made[0]


def test_the_version_of_what_runs_the_models() -> None:
    assert engine_version("fake").startswith("fake ")
    assert engine_version("vllm").startswith(("vllm ", "none"))
