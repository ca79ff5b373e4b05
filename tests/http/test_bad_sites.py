"""Sites that cannot be: refused by name, in one line, by each command that meets them."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.weights.digest import write_manifest
from tests.conftest import Gateway, Inhouse, start_gateway

MODELS = Path(__file__).parents[2] / "models"
# vLLM, of which nothing is started: nobody asks for a model that is loaded on demand.
SITE = """\
site: t
root: .
model_files: models
var_dir: {var_dir}
auth: {{mode: none}}
memory: {{host_gib: 5}}
models:
{entries}
"""
GOOD = "- {use: small, load: on_demand, aliases: [quick]}"


@dataclass(frozen=True)
class Bad:
    """Entries beside the good one, what is done to a copy of the weights, and what is said: why,
    what to do, and whether the file alone shows it (else the machine has to be looked at)."""

    entries: str
    why: str
    fix: str
    in_file: bool = True
    spoil: Callable[[Path], object] = lambda _: None


def cut_off(weights: Path) -> None:
    (weights / "model.safetensors").unlink()


def altered(weights: Path) -> None:
    file = weights / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.unlink()  # the copy is a hard link
    file.write_bytes(whole)


BAD = {
    "a name twice": Bad(
        "- {use: small}", '"small" already means models[0] ("small")', "aliases of its own"
    ),
    "an alias twice": Bad(
        "- {use: small, name: big, aliases: [quick]}",
        '"quick" already means models[0] ("small")',
        "names and aliases of its own",
    ),
    "a snapshot twice": Bad(
        "- {use: small, name: big, snapshot: 2026-11-01}\n"
        "- {use: small, name: big, snapshot: 2026-11-01}",
        '"big-2026-11-01" already means models[1] ("big")',
        "different snapshots",
    ),
    "an argument that vLLM does not know": Bad(
        "- {use: small, name: big, engine_args: {max-num-batched-tokenz: 64}}",
        "models[1].engine_args.max-num-batched-tokenz: vLLM",
        "did you mean max-num-batched-tokens?",
    ),
    "pinned models that do not fit": Bad(
        "- {use: small, name: big, pin: true}\n- {use: small, name: other, pin: true}",
        "the models that are pinned or loaded at startup do not fit together: ",
        "lower cpu_kv_gib",
        in_file=False,
    ),
    "a missing weight file": Bad(
        "- {use: copy, load: on_demand}", "copy", "safetensors", in_file=False, spoil=cut_off
    ),
    "an altered weight file": Bad(
        "- {use: copy, load: on_demand}",
        "digest mismatch",
        "model.safetensors",
        in_file=False,
        spoil=altered,
    ),
}


class Place:
    """A folder with model files, the good site and bad ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "models").mkdir()
        self.model("small", MODELS / "smollm2-135m", "")

    def model(self, name: str, weights: Path, digest: str) -> None:
        more = f', digest: "{digest}"' if digest else ""
        (self.folder / "models" / f"{name}.yaml").write_text(
            f"name: {name}\nsource: {{path: {weights}{more}}}\ncontext_tokens: 256\ncpu_kv_gib: 1\n"
        )

    def write(self, name: str, entries: str, var_dir: str = "var") -> Path:
        file = self.folder / f"{name}.yaml"
        file.write_text(SITE.format(entries=entries, var_dir=var_dir))
        return file

    def spoilt(self, bad: Bad) -> None:
        """Have a model `copy` whose weights are not what its file says."""
        weights = self.folder / "copy"
        shutil.rmtree(weights, ignore_errors=True)
        shutil.copytree(MODELS / "minilm-l6", weights, copy_function=os.link)
        digest = write_manifest(weights)
        bad.spoil(weights)
        self.model("copy", weights, digest)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    if not (MODELS / "minilm-l6").is_dir():
        pytest.fail("models/minilm-l6 is missing; run: make models")
    return Place(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Gateway]:
    """A server of the good site."""
    (place.folder / "starter.key").write_text("none")  # what `start_gateway` waits for
    site = place.write("good", GOOD)
    one = start_gateway(place.folder, "serve", "--site", str(site))
    yield one
    assert one.stop() == 0


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_site_is_refused_by_every_command(
    bad: Bad, place: Place, running: Gateway, inhouse: Inhouse
) -> None:
    place.spoilt(bad)
    before = running.client.get("/v1/models").json()
    site = place.write("bad", f"{GOOD}\n{bad.entries}")
    told = inhouse("apply", "--site", str(site), "--socket", str(socket(place)))
    one_line(told.err, bad)
    assert told.code == 1
    assert "still serves" in told.err
    assert running.client.get("/v1/models").json() == before
    assert running.engine_pids() == []
    elsewhere = place.write("elsewhere", f"{GOOD}\n{bad.entries}", var_dir="elsewhere")
    for command in (["plan", "--site"], ["serve", "--port", "1", "--site"]):
        refused = inhouse(*command, str(elsewhere))
        one_line(refused.err, bad)
        assert refused.code in (2, 3)
    checked = inhouse("check", str(site))
    if bad.in_file:
        one_line(checked.err, bad)
        assert checked.code == 2


def socket(place: Place) -> Path:
    return place.folder / "var" / "run" / "admin.sock"


def one_line(said: str, bad: Bad) -> None:
    (line,) = said.strip().splitlines()
    assert bad.why in line
    assert bad.fix in line
