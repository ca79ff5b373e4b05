from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.settings.consistency import Conflict
from serve.settings.summary import check_site


def weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_a_site_with_everything(sites) -> None:
    sites.load()
    place = weights(sites.folder / "models" / "small")
    assert check_site(sites.file, env={}) == [
        f"{sites.file}: valid",
        "site      lab",
        "listen    http://127.0.0.1:8000",
        "keys      needed; `inhouse keys list` shows them",
        "model     small",
        "          generate, 4096 tokens of context, loaded at startup",
        f"          weights found in {place} (no digest given)",
    ]


def test_what_is_missing_is_named_with_its_path(sites) -> None:
    (sites.folder / "models" / "half").mkdir(parents=True)
    sites.load(
        "site: lab\nroot: ../..\nmodels:\n"
        "- {use: small, aliases: [default], snapshot: 2026-11-01, devices: [3], load: on_demand,\n"
        "   harmony_vocab: vocab, chat_template: t.jinja}\n"
        "- {use: small, name: half, source: {path: models/half}}\n"
    )
    text = "\n".join(check_site(sites.file, env={}))
    assert "model     small-2026-11-01 (also small, default)" in text
    assert "generate, 4096 tokens of context, GPU 3, loaded on demand" in text
    assert f"missing: no folder {sites.folder}/models/small" in text
    assert f"missing: no chat template {sites.folder}/t.jinja" in text
    assert f"missing: no {sites.folder}/vocab/o200k_base.tiktoken" in text
    assert f"missing: {sites.folder}/models/half is no model" in text


def test_the_door_and_keys_of_a_site_without_keys(sites) -> None:
    sites.load("site: lab\nlisten: {host: '::1'}\nauth: {mode: none}\nmodels: [{use: small}]\n")
    lines = check_site(sites.file, env={})
    assert "listen    http://[::1]:8000" in lines
    assert "keys      none needed: only this machine can connect" in lines


def test_a_wrong_file_is_refused(sites) -> None:
    sites.file.write_text("site: lab\n")
    with pytest.raises(SettingsError, match="models is missing"):
        check_site(sites.file, env={})


def test_a_place_that_cannot_be_looked_at_is_said(sites) -> None:
    name = "a" * 300
    sites.load(f"site: lab\nmodels: [{{use: small, source: {{path: {name}}}}}]\n")
    assert any("cannot be read: File name too long" in line for line in check_site(sites.file))


def test_snapshots_adapters_and_routes_are_shown(sites) -> None:
    sites.load(
        "site: lab\nroot: ../..\nmodels:\n"
        "- {use: small, snapshot: 2026-11-01, deprecated: 2026-12-01, replaced_by: small,\n"
        "   aliases: [old], adapters: [{name: a, path: adapters/a, snapshot: 2026-11-05}]}\n"
        "- {use: small, snapshot: 2026-11-20, adapter_dir: more}\n"
        "routes:\n"
        "- {name: auto, otherwise: small, rules: [{name: pick, model: 'old:a'}]}\n"
    )
    lines = check_site(sites.file, env={})
    assert "model     small-2026-11-01 (also old)" in lines
    assert "model     small-2026-11-20 (also small)" in lines
    assert "          deprecated from 2026-12-01; use small" in lines
    assert "          adapters a-2026-11-05" in lines
    assert "route     auto → old:a (pick), small (otherwise)" in lines


def test_what_a_further_check_finds_has_its_line(sites) -> None:
    sites.load("site: lab\nmodels:\n- use: small\n  aliases: [default]\n")

    def check(site):
        assert site.models[0].aliases == ("default",)
        yield Conflict(("models", 0, "aliases", 0), "models[0].aliases[0]: not nice")

    with pytest.raises(SettingsError, match=r":4: models\[0\]\.aliases\[0\]: not nice$"):
        check_site(sites.file, env={}, check=check)
