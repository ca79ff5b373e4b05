"""What is published of a site: names, digests, fingerprints, dates, headers, adapters."""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from serve.catalogue import Catalogue, deprecation
from serve.core.call import Call
from serve.engines.backend import Claim
from serve.engines.client import EngineClient
from serve.engines.status import EngineStatus
from serve.settings.model import ModelConfig, ServedModel
from serve.weights.digest import digest_of
from tests.peft import write_adapter

ANY = {"any.thing": (3, 5)}


class Nobody:
    """A backend that is never asked."""

    @property
    def status(self) -> EngineStatus:
        raise AssertionError

    @property
    def client(self) -> EngineClient | None:
        raise AssertionError

    def subscribe(self, callback: Callable[[], None]) -> None:
        raise AssertionError

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        raise AssertionError


def model(config: dict[str, Any], **placement: Any) -> ServedModel:
    given = {"name": "m", "source": {"path": Path("/none")}, "context_tokens": 64}
    return ServedModel(config=ModelConfig.model_validate(given | config), **placement)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path, "fake 1", fake=True)


def served(catalogue: Catalogue, *models: ServedModel) -> Any:
    return catalogue.served([(one, Nobody()) for one in models])


def test_snapshots_side_by_side(catalogue: Catalogue) -> None:
    old, new = served(
        catalogue,
        model({}, snapshot=date(2026, 11, 1), aliases=("stable",), deprecated=date(2026, 12, 1)),
        model({}, snapshot=date(2026, 11, 20)),
    )
    assert old.names == ("m-2026-11-01", "stable")
    assert new.names == ("m-2026-11-20", "m")
    assert (old.id, new.id) == ("m-2026-11-01", "m-2026-11-20")
    assert (old.created_s, new.created_s) == (1_793_491_200, 1_795_132_800)
    assert old.about["deprecated"] == date(2026, 12, 1)
    assert old.about["aliases"] == ("stable",)
    assert new.headers == ()


def test_weights_that_nobody_digested_are(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    os.utime(weights / "config.json", (1000, 1000))
    (one,) = served(Catalogue(tmp_path, "vllm 1"), model({"source": {"path": weights}}))
    assert one.about["digest"] == digest_of(weights)
    assert one.created_s == 1000
    (weights / "config.json").write_text("{ }")
    (other,) = served(Catalogue(tmp_path, "vllm 1"), model({"source": {"path": weights}}))
    assert other.fingerprint != one.fingerprint


def test_a_given_digest_is_believed_here(catalogue: Catalogue) -> None:
    # The launch plan has read every byte against it.
    digest = f"sha256:{'1' * 64}"
    (one,) = served(catalogue, model({"source": {"path": Path("/none"), "digest": digest}}))
    assert one.about["digest"] == digest


def test_adapters_have_names_under_every_name_of_their_base(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    place = write_adapter(tmp_path / "law", ANY)
    (base,) = served(
        catalogue,
        model(
            {"adapters": [{"name": "law", "path": place, "snapshot": date(2026, 11, 5)}]},
            snapshot=date(2026, 11, 1),
            aliases=("small",),
            deprecated=date(2026, 12, 1),
        ),
    )
    (law,) = base.adapters
    assert law.id == "m-2026-11-01:law-2026-11-05"
    assert set(law.names) == {
        f"{one}:{own}"
        for one in ("m-2026-11-01", "m", "small")
        for own in ("law-2026-11-05", "law")
    }
    assert law.about["digest"] == digest_of(place)
    assert law.about["base"] == "m-2026-11-01"
    assert law.about["rank"] == 4
    assert law.fingerprint != base.fingerprint
    assert law.headers == base.headers != ()
    assert law.engine_model == f"{law.id}@{digest_of(place)[7:19]}"


def test_looking_again_keeps_what_has_not_changed(catalogue: Catalogue, tmp_path: Path) -> None:
    more = tmp_path / "more"
    write_adapter(more / "a", ANY)
    (base,) = served(catalogue, model({"adapter_dir": more}))
    (first,) = base.adapters
    (same,) = catalogue.looked_again([base])
    assert same.adapters[0] is first
    write_adapter(more / "b", ANY)
    (base,) = catalogue.looked_again([base])
    again = base.adapters
    assert [one.id for one in again] == ["m:a", "m:b"]
    assert again[0] is first
    # A file that was changed is another adapter, under the same name.
    write_adapter(more / "a", ANY, scale=2.0)
    (base,) = catalogue.looked_again([base])
    changed = base.adapters[0]
    assert changed.names == first.names
    assert changed.engine_model != first.engine_model
    assert changed.fingerprint != first.fingerprint


def test_copies_of_adapters_that_are_gone_are_removed(catalogue: Catalogue, tmp_path: Path) -> None:
    more = tmp_path / "more"
    write_adapter(more / "a", ANY)
    served(catalogue, model({"adapter_dir": more}))
    write_adapter(more / "a", ANY, scale=2.0)
    now = served(catalogue, model({"adapter_dir": more}))
    assert len(list((tmp_path / "cache" / "adapters").iterdir())) == 2
    catalogue.tidy(now)
    assert len(list((tmp_path / "cache" / "adapters").iterdir())) == 1


@pytest.mark.parametrize(
    ("placement", "headers"),
    [
        ({}, ()),
        ({"deprecated": date(2026, 12, 1)}, ((b"deprecation", b"@1796083200"),)),
        (
            {"deprecated": date(2026, 12, 1), "sunset": date(2027, 1, 1)},
            ((b"deprecation", b"@1796083200"), (b"sunset", b"Fri, 01 Jan 2027 00:00:00 GMT")),
        ),
    ],
)
def test_headers_of_a_deprecated_model(placement: dict[str, Any], headers: Any) -> None:
    assert deprecation(model({}, **placement)) == headers
