from datetime import date
from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.settings.load import load_site


def test_a_site_joins_its_model_files(sites) -> None:
    site = sites.load(
        """\
site: lab
root: ../..
var_dir: data
listen: {port: 9000}
models:
  - use: small
    snapshot: 2026-11-01
    aliases: [default, tiny]
    load: on_demand
    pin: true
    idle_sleep_s: 900
    context_tokens: 2048
    sampling: {top_p: 0.5}
    engine_args: {enforce_eager: true}
"""
    )
    (model,) = site.models
    assert site.listen.port == 9000
    assert model.id == "small-2026-11-01"
    assert model.names == ("small-2026-11-01", "small", "default", "tiny")
    assert (model.snapshot, model.load, model.pin) == (date(2026, 11, 1), "on_demand", True)
    assert model.idle_sleep_s == 900
    assert model.config.context_tokens == 2048
    assert (model.config.sampling.temperature, model.config.sampling.top_p) == (0.6, 0.5)
    assert model.config.engine_args == {"max-num-batched-tokens": 2048, "enforce-eager": True}
    assert model.config.source.path == sites.folder / "models/small"
    assert site.var_dir == sites.folder / "data"


def test_the_working_directory_does_not_matter(sites, monkeypatch, tmp_path_factory) -> None:
    here = sites.load()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert load_site(sites.file, env={}) == here
    monkeypatch.chdir(sites.file.parent)
    assert load_site(Path("lab.yaml"), env={}) == here


def test_without_root_paths_start_beside_the_file(sites) -> None:
    site = sites.load("site: lab\nmodels: [{use: small}]\n")
    assert site.models[0].config.source.path == sites.file.parent / "models/small"
    assert site.var_dir == sites.file.parent / "var"


def test_absolute_paths_home_and_variables(sites) -> None:
    sites.model("small", "name: small\nsource: {path: ~/w}\ncontext_tokens: ${TOKENS}\n")
    site = sites.load(
        "site: lab\nvar_dir: ${VAR}\nmodels: [{use: small}]\n",
        HOME="/home/op",
        VAR="/var/lib/inhouse",
        TOKENS="512",
    )
    assert site.models[0].config.source.path == Path("/home/op/w")
    assert site.models[0].config.context_tokens == 512
    assert site.var_dir == Path("/var/lib/inhouse")


def test_model_files_may_lie_elsewhere(sites) -> None:
    sites.model("small", "broken").rename(sites.file.parent / "small.yaml")
    (sites.file.parent / "small.yaml").write_text(
        "name: s\nsource: {path: p}\ncontext_tokens: 99\n"
    )
    site = sites.load("site: lab\nmodel_files: .\nmodels: [{use: small}]\n")
    assert site.models[0].config.name == "s"


def test_an_unknown_key_names_the_line_and_the_nearest(sites) -> None:
    text = (
        "site: lab\nlimts: {}\nlisten:\n  prt: 1\nzebra: 1\nmodels:\n- use: small\n  alias: [x]\n"
    )
    first, second, third, fourth = sites.problems(text)
    assert first == 'sites/lab.yaml:2: unknown key "limts"; nearest known key: "limits"'
    assert second == 'sites/lab.yaml:4: unknown key "prt" in listen; nearest known key: "port"'
    assert third.startswith('sites/lab.yaml:5: unknown key "zebra"; known keys: site, listen')
    assert fourth == (
        'sites/lab.yaml:8: unknown key "alias" in models[0]; nearest known key: "aliases"'
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "listen: {port: 65536}",
            "listen.port: found 65536; expected a whole number of 1 to 65535",
        ),
        ('listen: {port: "80"}', 'listen.port: found "80"; expected a whole number of 1 to 65535'),
        ("listen: {port: true}", "listen.port: found true; expected a whole number of 1 to 65535"),
        ("listen: {port: 80.5}", "listen.port: found 80.5; expected a whole number of 1 to 65535"),
        ("listen: 8000", "listen: found 8000; expected a mapping with the keys host, port"),
        ("listen: {host: a b}", 'listen.host: found "a b"; expected an IP address or host name'),
        ("limits: {body_mib: 0}", "limits.body_mib: found 0; expected a number above 0 and up to"),
        ("auth: {mode: maybe}", 'auth.mode: found "maybe"; expected one of "keys", "none"'),
        ("log: {level: on}", 'log.level: found "on"; expected one of "debug", "info", "warning"'),
        ("var_dir: 7", "var_dir: found 7; expected a path"),
        ("var_dir: [" + "a, " * 99 + "]", 'var_dir: found ["a", "a",'),
    ],
)
def test_a_wrong_value_says_what_was_found_and_expected(sites, entry: str, said: str) -> None:
    (problem,) = sites.problems(f"site: lab\nmodels: [{{use: small}}]\n{entry}\n")
    assert problem.startswith(f"sites/lab.yaml:3: {said}")
    assert len(problem) < 250


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("pin: yes", 'models[0].pin: found "yes"; expected true or false'),
        ("snapshot: 2026-13-01", 'models[0].snapshot: found "2026-13-01"; expected a date (YYYY-'),
        ("snapshot: 20261101", "models[0].snapshot: found 20261101; expected a date (YYYY-MM-DD)"),
        ("aliases: default", 'models[0].aliases: found "default"; expected a list, each a name'),
        ("aliases: [ok, No!]", 'models[0].aliases[1]: found "No!"; expected a name of up to 64'),
        (
            "devices: []",
            "models[0].devices: found []; expected a list of one or more, each",
        ),
        ("gpu_memory_fraction: 0.99", "models[0].gpu_memory_fraction: found 0.99; expected a numb"),
        ("source: {digest: md5}", 'models[0].source.digest: found "md5"; expected `sha256:` and'),
        ("source: {pth: x}", 'unknown key "pth" in models[0].source; nearest known key: "path"'),
        ("engine_args: {seed: [1]}", "models[0].engine_args.seed: found [1]; expected true or"),
        ("engine_args: {api_key: x}", "models[0].engine_args.api_key: not allowed: it makes the "),
        (
            "engine_args: {block-size: 1, block_size: 2}",
            "models[0].engine_args: block-size is given twice",
        ),
        ("chat_template: null\n  context_tokens: null", "models[0].context_tokens: found null; "),
    ],
)
def test_a_wrong_entry_says_so_at_its_line(sites, entry: str, said: str) -> None:
    (problem,) = sites.problems(f"site: lab\nmodels:\n- use: small\n  {entry}\n")
    line = 5 if "\n" in entry else 4
    assert problem.startswith(f"sites/lab.yaml:{line}: {said}")


def test_a_wrong_model_file_is_named_itself(sites) -> None:
    sites.model("small", "name: Small\nsource: {}\ncontxt_tokens: 1\nparallel: {tensor: 0}\n")
    assert sites.problems("site: lab\nmodels: [{use: small}]\n") == [
        "models/small.yaml:1: context_tokens is missing; expected a whole number of 16 to 16777216",
        'models/small.yaml:1: name: found "Small"; expected a name of up to 64 lower-case letters, '
        "digits and `.`, `_`, `-`",
        "models/small.yaml:2: source.path is missing; expected a path",
        'models/small.yaml:3: unknown key "contxt_tokens"; nearest known key: "context_tokens"',
        "models/small.yaml:4: parallel.tensor: found 0; expected a whole number of 1 to 64",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "models/small.yaml: the file is empty"),
        ("- a", "models/small.yaml:1: a model file is a mapping that begins with name:"),
        ("name: [", "models/small.yaml:1: not valid YAML"),
        ("name: small\nname: small", 'models/small.yaml:2: key "name" is given twice'),
    ],
)
def test_an_unreadable_model_file(sites, text: str, said: str) -> None:
    sites.model("small", text)
    (problem,) = sites.problems("site: lab\nmodels: [{use: small}]\n")
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "sites/lab.yaml:1: the file: found [1]; expected a mapping with the keys site"),
        ("site: lab", "sites/lab.yaml:1: models is missing; expected a list"),
        ("site: lab\nmodels: []", "sites/lab.yaml:2: models: found []; expected a list"),
        ("models: [{use: small}]", "sites/lab.yaml:1: site is missing; expected text"),
        (
            "site: lab\nmodels: [small]",
            'sites/lab.yaml:2: models[0]: found "small"; expected a map',
        ),
        (
            "site: lab\nmodels: [{pin: true}]",
            "sites/lab.yaml:2: models[0].use is missing; expected",
        ),
        ("site: lab\nmodels: [{use: ../x}]", 'sites/lab.yaml:2: models[0].use: found "../x"'),
    ],
)
def test_a_site_without_its_parts(sites, text: str, said: str) -> None:
    (problem,) = sites.problems(text)
    assert problem.startswith(said)


def test_a_missing_model_file_lists_those_there_are(sites) -> None:
    sites.model("other", "name: other")
    assert sites.problems("site: lab\nmodels:\n- use: smal\n") == [
        'sites/lab.yaml:3: no model file "smal" in models; available: other, small'
    ]


def test_a_missing_site_file_is_one_line(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"^.*/no\.yaml: cannot be read: No such file"):
        load_site(tmp_path / "no.yaml", env={})


def test_all_kinds_of_problems_come_together(sites) -> None:
    sites.model("bad", "name: bad\nsource: {path: x}\n")
    text = """\
site: lab
listen: {host: 0.0.0.0}
auth: {mode: none}
models:
- use: small
- use: small
- use: bad
- use: gone
  pine: true
"""
    said = "\n".join(sites.problems(text))
    for part in (
        "sites/lab.yaml:3: auth.mode none",
        "models/bad.yaml:1: context_tokens is missing",
        'sites/lab.yaml:8: no model file "gone"',
        'sites/lab.yaml:9: unknown key "pine"',
    ):
        assert part in said


def test_conflicts_point_at_the_entry_at_fault(sites) -> None:
    text = "site: lab\nmodels:\n- use: small\n- use: small\n  name: big\n  aliases: [small]\n"
    assert sites.problems(text) == [
        'sites/lab.yaml:6: "small" already means models[0] ("small"); give each model names and '
        "aliases of its own, and entries of one model different snapshots"
    ]


ROUTED = """\
site: lab
models:
- use: small
- {use: small, name: vectors, task: embed}
routes:
- name: auto
  rules:
  - {name: long, model: large, when: {prompt_chars_min: 4000}}
  - {name: tools, model: small, when: {tools: true}}
  otherwise: vectors
- name: small
  otherwise: small
"""


def test_routes_are_refused_at_their_line(sites) -> None:
    problems = sites.problems(ROUTED)
    assert problems == [
        'sites/lab.yaml:8: routes[0].rules[0].model: no model "large" generates here; these do: '
        "small",
        'sites/lab.yaml:10: routes[0].otherwise: no model "vectors" generates here; these do: '
        "small",
        'sites/lab.yaml:11: routes[1].name: "small" already means a model; choose another name',
    ]


def test_two_snapshots_of_one_model_stand_side_by_side(sites) -> None:
    site = sites.load(
        "site: lab\nmodels:\n"
        "- {use: small, snapshot: 2026-11-01, aliases: [old], deprecated: 2026-12-01,\n"
        "   replaced_by: small, source: {path: models/old}}\n"
        "- {use: small, snapshot: 2026-11-20}\n"
    )
    assert [model.id for model in site.models] == ["small-2026-11-01", "small-2026-11-20"]
    problems = sites.problems(
        "site: lab\nmodels:\n- {use: small, snapshot: 2026-11-01}\n"
        "- {use: small, snapshot: 2026-11-01}\n"
    )
    assert problems[0].startswith('sites/lab.yaml:4: "small-2026-11-01" already means models[0]')


def test_the_end_of_a_model_is_announced_in_order(sites) -> None:
    problems = sites.problems(
        "site: lab\nmodels:\n"
        "- {use: small, snapshot: 2026-11-01, deprecated: 2026-12-02, sunset: 2026-12-01}\n"
        "- {use: small, snapshot: 2026-11-02, sunset: 2026-12-01}\n"
        "- {use: small, replaced_by: large, name: other}\n"
    )
    assert problems == [
        "sites/lab.yaml:3: models[0].sunset needs a deprecated that is not after it (RFC 9745)",
        "sites/lab.yaml:4: models[1].sunset needs a deprecated that is not after it (RFC 9745)",
        'sites/lab.yaml:5: models[2].replaced_by: no model "large" here; served: other, small, '
        "small-2026-11-01, small-2026-11-02",
    ]


def test_adapters_lie_below_root(sites) -> None:
    site = sites.load(
        "site: lab\nroot: ../..\nmodels:\n"
        "- {use: small, adapter_dir: more, adapters: [{name: a, path: adapters/a}]}\n"
    )
    (model,) = site.models
    assert model.config.adapter_dir is not None
    assert model.config.adapter_dir.resolve() == sites.folder / "more"
    assert model.config.adapters[0].path.resolve() == sites.folder / "adapters" / "a"
    assert model.adaptable


def test_adapters_that_cannot_be(sites) -> None:
    problems = sites.problems(
        "site: lab\nmodels:\n"
        "- use: small\n"
        "  adapters: [{name: a, path: x}, {name: a, path: y}]\n"
        "- {use: small, name: vectors, task: embed, adapter_dir: z}\n"
    )
    assert problems == [
        'sites/lab.yaml:4: models[0].adapters[1]: "a" already means adapters[0]; give each a '
        "name, or a snapshot, of its own",
        "sites/lab.yaml:5: models[1].adapter_dir has no meaning for task embed; remove it",
    ]
    (problem,) = sites.problems(
        "site: lab\nmodels:\n- {use: small, engine_args: {enable-lora: true}}\n"
    )
    assert "set adapters or adapter_dir instead" in problem


def test_a_folder_of_model_files_that_cannot_be_looked_at(sites) -> None:
    (problem,) = sites.problems(f"site: lab\nmodel_files: {'a' * 300}\nmodels:\n- use: small\n")
    assert problem.startswith("sites/lab.yaml:4: model files in ")
    assert problem.endswith("cannot be read: File name too long")
