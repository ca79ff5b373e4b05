from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from serve.settings.schema import json_schema, settings_table

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "site-file.md"


def fields(schema: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, one in schema.get("properties", {}).items():
        yield f"{name}.{key}", one
    for key, one in schema.get("$defs", {}).items():
        yield from fields(one, key)


def test_every_setting_has_a_description() -> None:
    schema = json_schema()

    def description(one: dict[str, Any]) -> str | None:
        # pydantic leaves out a description that repeats the one of what is referred to.
        below = schema["$defs"].get(str(one.get("$ref", "")).rpartition("/")[2], {})
        return one.get("description") or below.get("description")

    bare = [name for name, one in fields(schema) if not description(one)]
    assert bare == []
    assert len(list(fields(schema))) > 40


def test_the_schema_is_one_and_holds_nothing_of_our_own() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "x-in-words" not in str(schema)


def faults_of(site: Any) -> list[str]:
    """What the schema has against a site."""
    return [one.message for one in jsonschema.Draft202012Validator(json_schema()).iter_errors(site)]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs/sites").glob("*.yaml")), ids=lambda f: f.stem
)
def test_shipped_sites_are_valid_by_the_schema(file: Path) -> None:
    assert faults_of(yaml.safe_load(file.read_text())) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": [{"use": "a"}]},
        {"site": "x", "models": []},
        {"site": "x", "models": [{}]},
        {"site": "x", "models": [{"use": "a", "contxt_tokens": 1}]},
        {"site": "x", "models": [{"use": "a", "source": {"pth": "x"}}]},
        {"site": "x", "models": [{"use": "a"}], "listen": {"port": 0}},
    ],
)
def test_wrong_sites_are_not(wrong: dict[str, Any]) -> None:
    assert faults_of(wrong)


def test_an_override_may_name_part_of_a_nested_setting() -> None:
    site = {"site": "x", "models": [{"use": "a", "source": {"digest": "sha256:" + "0" * 64}}]}
    assert faults_of(site) == []


def test_the_docs_hold_the_table() -> None:
    assert settings_table() in DOCS.read_text(), (
        "docs/site-file.md is behind the settings: paste the output of "
        "`inhouse schema --markdown` between its two marks"
    )


def test_the_table_has_every_setting() -> None:
    table = settings_table()
    for name, one in fields(json_schema()):
        key = name.rsplit(".", 1)[1]
        nested = "$ref" in one or "$ref" in str(one.get("items"))
        assert nested or f"{key}`" in table, name
    assert "| `limits.body_mib` | a number above 0 and up to 1024 | `8` |" in table
    assert "| `models[].use` | a name of up to 64" in table
    assert "| `engine_args` | a mapping | `{}` |" in table
