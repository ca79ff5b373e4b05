"""What a site file says, for a person: `inhouse check FILE`."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from serve.settings.load import Check, load_site
from serve.settings.model import ModelConfig, ServedModel
from serve.settings.names import names_of, pinned
from serve.settings.routes import Route
from serve.settings.site import Site
from serve.settings.toolservers import ToolServer

Describe = Callable[[ModelConfig], Iterable[str]]
"""More lines about a model."""


def check_site(
    path: Path,
    *,
    env: Mapping[str, str] = os.environ,
    check: Check | None = None,
    more: Describe | None = None,
) -> list[str]:
    """Lines that say what the site is and what it still lacks.

    Raises SettingsError where the file is wrong, or `check` finds what it names to be; missing
    weights are only said.
    """
    site = load_site(path, env=env, check=check)
    lines = [
        f"{path}: valid",
        f"site      {site.site}",
        f"listen    http://{_host(site)}:{site.listen.port}",
        f"keys      {_keys(site)}",
    ]
    for model, names in zip(site.models, names_of([m.entry for m in site.models]), strict=True):
        lines += _model_lines(model, names)
        lines += [f"          {one}" for one in (more(model.config) if more else ())]
    lines += [f"route     {route.name} → {_targets(route)}" for route in site.routes]
    lines += [f"tools     {one.name} → {_reached(one)}" for one in site.tool_servers]
    return lines


def _reached(server: ToolServer) -> str:
    where = server.urls or (" ".join(server.command),)
    return ", ".join(dict.fromkeys(where))


def weights_missing(config: ModelConfig) -> list[str]:
    """What of a model's files is not there, one sentence each with its path."""
    try:
        return list(_missing(config))
    except OSError as error:
        return [f"{error.filename} cannot be read: {error.strerror}"]


def _missing(config: ModelConfig) -> Iterator[str]:
    folder = config.source.path
    if not folder.is_dir():
        yield f"no folder {folder}; put the model there, or set source.path"
    elif not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        yield f"{folder} is no model: it needs config.json and *.safetensors"
    if config.chat_template is not None and not config.chat_template.is_file():
        yield f"no chat template {config.chat_template}"
    if config.harmony_vocab is not None:
        vocabulary = config.harmony_vocab / "o200k_base.tiktoken"
        if not vocabulary.is_file():
            yield f"no {vocabulary}; copy it from a machine that has it"


def _targets(route: Route) -> str:
    rules = [f"{rule.model} ({rule.name})" for rule in route.rules]
    return ", ".join([*rules, f"{route.otherwise} (otherwise)"])


def _model_lines(model: ServedModel, answers_to: tuple[str, ...]) -> list[str]:
    config = model.config
    names = ", ".join(answers_to[1:])
    where = "" if config.devices is None else f", GPU {', '.join(map(str, config.devices))}"
    lines = [
        f"model     {model.id}" + (f" (also {names})" if names else ""),
        f"          {config.task}, {config.context_tokens} tokens of context{where}, "
        f"loaded {'at startup' if model.load == 'startup' else 'on demand'}",
    ]
    missing = weights_missing(config)
    if missing:
        lines += [f"          missing: {one}" for one in missing]
    else:
        checked = "digest to be checked at load" if config.source.digest else "no digest given"
        lines.append(f"          weights found in {config.source.path} ({checked})")
    lines += [f"          {one}" for one in _more(model)]
    return lines


def _more(model: ServedModel) -> Iterator[str]:
    config = model.config
    if model.deprecated is not None:
        instead = f"; use {model.replaced_by}" if model.replaced_by else ""
        yield f"deprecated from {model.deprecated}{instead}"
    if config.adapters:
        pins = ", ".join(pinned(one.name, one.snapshot) for one in config.adapters)
        yield f"adapters {pins}"


def _host(site: Site) -> str:
    return f"[{site.listen.host}]" if ":" in site.listen.host else site.listen.host


def _keys(site: Site) -> str:
    if site.auth.mode == "none":
        return "none needed: only this machine can connect"
    return "needed; `inhouse keys list` shows them"
