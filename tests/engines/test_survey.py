"""`inhouse check` on adapters: what could not be served is told by its field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve.core.errors import SettingsError
from serve.engines.survey import adapter_in, conflicts, lines
from serve.settings.load import load_site
from serve.settings.summary import check_site
from tests.conftest import Inhouse
from tests.peft import write_adapter

Q = {"layers.0.self_attn.q_proj": (8, 8)}
SITE = """\
site: t
root: .
model_files: models
var_dir: .
models:
  - use: base
    adapters:
      - {name: good, path: good}
      - {name: other, path: other}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    tensors = {"model.layers.0.self_attn.q_proj.weight": np.zeros((8, 8), np.float32)}
    save_file(tensors, weights / "model.safetensors")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.yaml").write_text(
        "name: base\nsource: {path: weights}\ncontext_tokens: 64\nadapter_dir: more\n"
    )
    write_adapter(tmp_path / "good", Q)
    (tmp_path / "site.yaml").write_text(SITE)
    return tmp_path / "site.yaml"


@pytest.mark.parametrize(
    ("modules", "fields", "said"),
    [
        ({"layers.1.self_attn.q_proj": (8, 8)}, {}, "it was made for another model"),
        ({"layers.0.self_attn.q_proj": (8, 9)}, {}, "takes 9 values and gives 8"),
        (Q, {"base_model_name_or_path": "org/Other-7B"}, "made for org/Other-7B"),
        (Q, {"rank": 32}, "rank 32 is above adapter_rank_max 16"),
        (Q, {"use_dora": True}, "use_dora is not run"),
    ],
)
def test_one_that_does_not_fit(
    site: Path, inhouse: Inhouse, modules: Any, fields: dict[str, Any], said: str
) -> None:
    write_adapter(site.parent / "other", modules, **fields)
    done = inhouse("check", str(site))
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"{site}:9: models[0].adapters[1]: {site.parent}/other")
    assert said in line


def test_a_missing_file_and_all_faults_at_once(site: Path, inhouse: Inhouse) -> None:
    (site.parent / "good" / "adapter_model.safetensors").unlink()
    done = inhouse("check", str(site))
    first, second = done.err.splitlines()
    assert first.startswith(f"{site}:8: models[0].adapters[0]: {site.parent}/good")
    assert first.endswith("no adapter here (adapter_model.safetensors is missing)")
    assert second.startswith(f"{site}:9: models[0].adapters[1]")
    assert done.code == 2


def test_without_weights_an_adapter_is_held_against_the_rest(site: Path) -> None:
    (site.parent / "weights" / "config.json").unlink()
    write_adapter(site.parent / "other", {"layers.7.mlp": (1, 2)}, rank=64)
    (only,) = conflicts(load_site(site))
    assert only.place == ("models", 0, "adapters", 1)
    assert "rank 64" in only.text


def test_those_of_the_folder_are_said_and_fail_nothing(site: Path, inhouse: Inhouse) -> None:
    write_adapter(site.parent / "other", Q)
    write_adapter(site.parent / "more" / "tone-2026-11-05", Q)
    write_adapter(site.parent / "more" / "huge", Q, rank=64)
    write_adapter(site.parent / "more" / "good", Q)
    done = inhouse("check", str(site))
    assert done.code == 0, done.err
    more = site.parent / "more"
    shown = [line.strip() for line in done.out.splitlines()]
    at = shown.index("adapters good, other")
    assert shown[at + 1] == f"adapters in {more}: tone-2026-11-05"
    assert (
        shown[at + 2]
        == f'not served: {more}/good: "good" already means another adapter of this model'
    )
    assert shown[at + 3].startswith(f"not served: {more}/huge: rank 64 is above")


def test_a_folder_that_is_not_there_yet_or_cannot_be_read_is_said(site: Path) -> None:
    write_adapter(site.parent / "other", Q)
    more = site.parent / "more"
    assert f"          adapters in {more}: none yet" in check_site(site, more=lines)
    more.write_text("")
    assert f"          not served: {more}: cannot be read (Not a directory)" in check_site(
        site, more=lines
    )


def test_a_folder_s_manifest_is_its_digest(tmp_path: Path) -> None:
    place = write_adapter(tmp_path / "tone-2026-11-05", Q)
    one = adapter_in(place)
    assert (one.name, str(one.snapshot), one.digest) == ("tone", "2026-11-05", None)
    (place / "inhouse-digest.json").write_text(json.dumps({}))
    with pytest.raises(SettingsError, match="tells of no digest"):
        adapter_in(place)
