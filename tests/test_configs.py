"""Every site and model file that ships is loaded, and its broken forms are refused."""

import random
import shutil
from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.settings.load import load_site
from serve.settings.model import ModelConfig
from serve.settings.site import Site

CONFIGS = Path(__file__).parents[1] / "configs"
SITES = sorted((CONFIGS / "sites").glob("*.yaml"))
MODELS = sorted((CONFIGS / "models").glob("*.yaml"))
CUTS_OF_OTHERS = 12


def site_of(folder: Path, model: str) -> Path:
    """A site file that serves one model file and nothing else."""
    file = folder / "one.yaml"
    file.write_text(f"site: one\nmodel_files: {CONFIGS / 'models'}\nmodels: [{{use: {model}}}]\n")
    return file


def test_what_was_promised_ships() -> None:
    assert {file.stem for file in SITES} >= {
        "quickstart", "cpu-two-models", "gpu-1x80g", "gpu-8x80g",
    }  # fmt: skip
    assert {file.stem for file in MODELS} >= {
        "smollm2-135m", "minilm-l6", "gpt-oss-20b", "gpt-oss-120b",
    }  # fmt: skip


@pytest.mark.parametrize("file", SITES, ids=lambda file: file.stem)
def test_a_shipped_site_loads(file: Path) -> None:
    site = load_site(file, env={})
    assert site.site == file.stem
    assert any("default" in model.names for model in site.models)
    assert site.auth.mode == "keys"
    assert site.var_dir == CONFIGS.parent / "var"


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
def test_a_shipped_model_file_loads_and_says_where_it_comes_from(
    file: Path, tmp_path: Path
) -> None:
    config = load_site(site_of(tmp_path, file.stem), env={}).models[0].config
    assert config.name == file.stem
    comment = "".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    assert "http" in comment or "starter" in comment
    if config.task == "generate":
        assert config.tool_parser is not None
        assert config.sampling.temperature is not None


def site(name: str) -> Site:
    return load_site(CONFIGS / "sites" / f"{name}.yaml", env={})


def config(name: str, model: str) -> ModelConfig:
    return next(one.config for one in site(name).models if one.config.name == model)


def test_the_quickstart_is_what_make_serve_promises() -> None:
    quickstart = site("quickstart")
    (model,) = quickstart.models
    assert (quickstart.listen.host, quickstart.listen.port) == ("127.0.0.1", 8000)
    assert model.id == "smollm2-135m"
    assert model.names == ("smollm2-135m", "default")
    assert model.config.context_tokens == 8192
    assert model.config.source.path == CONFIGS.parent / "models" / "smollm2-135m"


def test_the_eight_gpu_site_uses_every_gpu_once() -> None:
    taken = [gpu for one in site("gpu-8x80g").models for gpu in one.config.devices or ()]
    assert set(taken) == set(range(8))
    assert config("gpu-8x80g", "gpt-oss-120b").parallel.tensor == 4


def test_gpt_oss_speaks_harmony() -> None:
    for name, model in (("gpu-1x80g", "gpt-oss-20b"), ("gpu-8x80g", "gpt-oss-120b")):
        one = config(name, model)
        assert (one.tool_parser, one.reasoning_parser) == ("openai", "openai_gptoss")
        assert one.harmony_vocab is not None
        assert (one.sampling.temperature, one.sampling.top_p) == (1.0, 1.0)


def cut_and_load(whole: bytes, end: int, file: Path, site_file: Path) -> bool:
    """Whether the first `end` bytes of a file still give a site."""
    file.write_bytes(whole[:end])
    try:
        load_site(site_file, env={})
    except SettingsError as refused:
        assert str(file) in refused.message
        return False
    return True


def test_a_site_file_cut_at_any_byte_is_valid_or_refused(tmp_path: Path) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    file = tmp_path / "configs" / "sites" / "quickstart.yaml"
    whole = file.read_bytes()
    loaded = [cut_and_load(whole, end, file, file) for end in range(len(whole) + 1)]
    assert loaded[-1]
    assert not any(loaded[: whole.index(b"models:")])


@pytest.mark.parametrize("source", [*SITES, *MODELS], ids=lambda file: file.stem)
def test_other_files_cut_anywhere_are_valid_or_refused(source: Path, tmp_path: Path) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    file = tmp_path / source.relative_to(CONFIGS.parent)
    site_file = file
    if source in MODELS:
        site_file = tmp_path / "configs" / "sites" / "one.yaml"
        site_file.write_text(f"site: one\nmodels: [{{use: {source.stem}}}]\n")
    whole = file.read_bytes()
    cuts = random.Random(source.stem).sample(range(len(whole)), CUTS_OF_OTHERS)
    for end in cuts:
        cut_and_load(whole, end, file, site_file)
    assert cut_and_load(whole, len(whole), file, site_file)
