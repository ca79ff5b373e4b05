"""The composed server, without its door: what it publishes, and when that changes."""

from pathlib import Path

import pytest

from serve.app import compose
from serve.core.call import Principal
from serve.core.errors import ModelNotFound, SettingsError
from serve.server import Server
from serve.settings.load import load_site
from serve.sites import portfolio_of
from tests.peft import write_adapter

ANY = {"any.thing": (3, 5)}
WHO = Principal("k")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "fake.yaml").write_text(
        "name: fake\nsource: {path: none}\ncontext_tokens: 1000\n"
    )
    write_adapter(tmp_path / "law", ANY)
    site = tmp_path / "site.yaml"
    site.write_text(
        "site: t\nroot: .\nmodel_files: models\nauth: {mode: none}\nvar_dir: .\n"
        "engine_defaults: {kind: fake}\n"
        "models: [{use: fake, adapters: [{name: law, path: law}], adapter_dir: more}]\n"
    )
    loaded = load_site(site)
    return compose(loaded, portfolio_of(loaded, {}))


async def test_adapters_come_and_go_while_it_serves(server: Server, tmp_path: Path) -> None:
    law = server.pipeline.resolve("fake:law", WHO)
    with pytest.raises(ModelNotFound):
        server.pipeline.resolve("fake:tone", WHO)
    write_adapter(tmp_path / "more" / "tone", ANY)
    await server.adapters.rescan()
    assert server.pipeline.resolve("fake:tone", WHO).id == "fake:tone"
    # A request that was given it keeps it, and the next one gets the same.
    assert server.pipeline.resolve("fake:law", WHO) is law
    (tmp_path / "more" / "tone").rename(tmp_path / "away")
    await server.adapters.rescan()
    with pytest.raises(ModelNotFound):
        server.pipeline.resolve("fake:tone", WHO)


async def test_a_listed_one_that_went_wrong_leaves_what_is_served(
    server: Server, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "more" / "tone", ANY)
    (tmp_path / "law" / "run.py").write_text("")
    with pytest.raises(SettingsError, match="code beside weights"):
        await server.adapters.rescan()
    assert server.pipeline.names_for(WHO) == ("fake", "fake:law")
    assert server.pipeline.resolve("fake:law", WHO)
