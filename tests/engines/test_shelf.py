"""Which adapters a model has: those its file lists, and those that lie in its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve.core.errors import SettingsError
from serve.engines.shelf import Contents, Shelf
from serve.engines.survey import FOUND_MAX
from serve.settings.model import ModelConfig
from serve.weights.digest import digest_of, write_manifest
from serve.weights.ledger import Ledger
from tests.peft import write_adapter

Q = {"layers.0.self_attn.q_proj": (8, 8)}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf", Ledger(tmp_path / "digests.json"))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., ModelConfig]:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    weights = {"model.layers.0.self_attn.q_proj.weight": np.zeros((8, 8), np.float32)}
    save_file(weights, base / "model.safetensors")

    def build(*adapters: dict[str, Any], **fields: Any) -> ModelConfig:
        given = {"name": "base", "source": {"path": base}, "context_tokens": 64}
        return ModelConfig.model_validate(given | fields | {"adapters": adapters})

    return build


Config = Callable[..., ModelConfig]


def pins(contents: Contents) -> list[str]:
    return [one.entry.pin for one in contents.found]


def reasons(contents: Contents) -> dict[str, str]:
    return {folder.name: reason for folder, reason in contents.refused.items()}


def test_listed_ones(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    place = write_adapter(tmp_path / "a", Q)
    (found,) = shelf.look(config({"name": "a", "path": place, "snapshot": "2026-11-05"})).found
    assert found.entry.pin == "a-2026-11-05"
    assert found.digest == digest_of(place)
    assert found.rank == 4
    assert found.folder.parent == tmp_path / "shelf"


def test_a_model_without_any_is_not_looked_at(shelf: Shelf, config: Config) -> None:
    assert shelf.look(config(source={"path": Path("/none")})) == Contents()
    assert shelf.look(config(adapter_dir=Path("/none"))) == Contents()


@pytest.mark.parametrize("what", ["digest", "rank", "base", "gone"])
def test_a_listed_one_that_cannot_be_served_stops_the_start(
    shelf: Shelf, config: Config, tmp_path: Path, what: str
) -> None:
    modules = {"layers.1.self_attn.q_proj": (8, 8)} if what == "base" else Q
    place = write_adapter(tmp_path / "a", modules, rank=32 if what == "rank" else 4)
    adapter: dict[str, Any] = {"name": "a", "path": place}
    if what == "digest":
        adapter["digest"] = f"sha256:{'0' * 64}"
    if what == "gone":
        adapter["path"] = tmp_path / "gone"
    said = {
        "digest": "digest mismatch", "rank": "above adapter_rank_max 16",
        "base": "made for another model", "gone": "no adapter here",
    }  # fmt: skip
    with pytest.raises(SettingsError, match=said[what]):
        shelf.look(config(adapter))


def test_a_fake_model_has_no_weights_to_hold_them_against(
    shelf: Shelf, config: Config, tmp_path: Path
) -> None:
    place = write_adapter(tmp_path / "a", {"any.thing": (3, 5)})
    found = shelf.look(
        config({"name": "a", "path": place}, source={"path": Path("/none")}), weightless=True
    )
    assert pins(found) == ["a"]


def test_those_in_the_folder_come_and_go(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    more = tmp_path / "more"
    model = config(adapter_dir=more)
    write_adapter(more / "b-2026-11-05", Q)
    write_adapter(more / "a", Q)
    (more / ".incoming").mkdir()
    assert pins(shelf.look(model)) == ["a", "b-2026-11-05"]
    (more / "a").rename(tmp_path / "elsewhere")
    assert pins(shelf.look(model)) == ["b-2026-11-05"]


def test_a_wrong_one_in_the_folder_harms_no_other(
    shelf: Shelf, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = tmp_path / "more"
    write_adapter(more / "good", Q)
    write_adapter(more / "wide", {"layers.0.self_attn.q_proj": (8, 9)})
    write_adapter(more / "Loud", Q)
    write_adapter(more / "late-2026-13-01", Q)
    write_adapter(more / "coded", Q)
    (more / "coded" / "run.py").write_text("")
    (more / "half").mkdir()
    model = config(adapter_dir=more)
    for _ in range(2):
        there = shelf.look(model)
        assert pins(there) == ["good"]
    said = reasons(there)
    assert set(said) == {"wide", "Loud", "late-2026-13-01", "coded", "half"}
    assert "takes 9 values" in said["wide"]
    assert "name the folder" in said["Loud"]
    assert "name the folder" in said["late-2026-13-01"]
    assert "code beside weights" in said["coded"]
    assert len(caplog.records) == 5  # each is told once
    write_adapter(more / "half", Q)
    there = shelf.look(model)
    assert pins(there) == ["good", "half"]
    assert set(reasons(there)) == {"wide", "Loud", "late-2026-13-01", "coded"}
    (more / "coded").rename(tmp_path / "coded")
    assert "coded" not in reasons(shelf.look(model))


def test_names_mean_one_adapter(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    more = tmp_path / "more"
    listed = write_adapter(tmp_path / "a", Q)
    for name in ("a", "b", "b-2026-11-05"):
        write_adapter(more / name, Q)
    found = shelf.look(config({"name": "a", "path": listed}, adapter_dir=more))
    assert pins(found) == ["a", "b"]
    assert '"a" already means' in reasons(found)["a"]
    assert '"b" already means' in reasons(found)["b-2026-11-05"]


def test_a_manifest_beside_the_files_is_held_to(
    shelf: Shelf, config: Config, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    place = write_adapter(more / "a", Q)
    digest = write_manifest(place)
    model = config(adapter_dir=more)
    (found,) = shelf.look(model).found
    assert found.digest == digest
    said = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(said | {"lora_alpha": 99}))
    there = shelf.look(model)
    assert there.found == ()
    assert "digest mismatch" in there.refused[place]
    assert "adapter_config.json" in there.refused[place]
    write_manifest(place)
    (again,) = shelf.look(model).found
    assert again.digest != digest
    (place / "inhouse-digest.json").write_text("{}")
    there = shelf.look(model)
    assert there.found == ()
    assert "tells of no digest" in there.refused[place]


def test_there_is_a_bound(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    more = tmp_path / "more"
    for number in range(FOUND_MAX + 1):
        (more / f"a{number:04}").mkdir(parents=True)
    there = shelf.look(config(adapter_dir=more))
    assert there.found == ()
    assert "only the first 256" in reasons(there)[f"a{FOUND_MAX:04}"]
    assert "is missing" in reasons(there)[f"a{FOUND_MAX - 1:04}"]


def test_two_snapshots_may_share_a_folder(
    shelf: Shelf, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = tmp_path / "more"
    place = write_adapter(more / "a", Q, rank=16)
    wide, narrow = config(adapter_dir=more), config(adapter_dir=more, adapter_rank_max=8)
    for _ in range(2):
        assert pins(shelf.look(wide)) == ["a"]
        assert set(shelf.look(narrow).refused) == {place}
    assert len(caplog.records) == 1


def test_checking_copies_nothing(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    shelf.check(config({"name": "a", "path": write_adapter(tmp_path / "a", Q)}))
    assert not (tmp_path / "shelf").exists()
    with pytest.raises(SettingsError, match="no adapter here"):
        shelf.check(config({"name": "a", "path": tmp_path / "gone"}))


def test_copies_that_nobody_needs_go(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    shelf.tidy(())
    model = config(
        {"name": "a", "path": write_adapter(tmp_path / "a", Q)},
        {"name": "b", "path": write_adapter(tmp_path / "b", Q, scale=2.0)},
    )
    first, second = shelf.look(model).found
    shelf.tidy([second.digest])
    assert second.folder.is_dir()
    assert not first.folder.exists()


def test_the_copies_are_not_offered_again(shelf: Shelf, config: Config, tmp_path: Path) -> None:
    own = tmp_path / "shelf"
    write_adapter(own / "a", Q)
    for model in (config(adapter_dir=own), config({"name": "a", "path": own / "a"})):
        with pytest.raises(SettingsError, match="its own copies"):
            shelf.look(model)
    (own / "a").rename(tmp_path / "a")
    (tmp_path / "link").symlink_to(own)
    with pytest.raises(SettingsError, match="its own copies"):
        shelf.check(config(adapter_dir=tmp_path / "link"))
