"""From a site file to a Site: read, join with the model files, check, make paths absolute."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from serve.core.errors import SettingsError
from serve.settings.audit import Audit
from serve.settings.consistency import Conflict, of_door, of_models, of_routes, of_tool_servers
from serve.settings.model import ModelConfig, ServedModel
from serve.settings.prices import of_prices
from serve.settings.site import ModelUse, Site, SiteFile
from serve.settings.state import SQLITE_PREFIX, State
from serve.settings.terms import Frozen
from serve.settings.tree import Node, Place, Problem, decode, raw_of, refuse
from serve.settings.validation import unknown_key, validated

_UNCHANGED: Final = (
    "site", "listen", "auth", "engine_defaults", "limits", "memory", "routes", "reload", "log",
    "files", "batches", "prices",
)  # fmt: skip


Check = Callable[[Site], Iterable[Conflict]]
"""Looks at what a site that is right in itself names."""


def load_site(
    path: Path, *, env: Mapping[str, str] = os.environ, check: Check | None = None
) -> Site:
    """The site that the file at `path` describes.

    Relative paths start from the file's `root`. `env` gives `${NAME}` and `~` their values.
    Raises SettingsError with every problem found, one a line, each with file and line; those that
    `check` finds are problems too.
    """
    return _Loading(path, env, check=check).site()


def load_files(
    path: Path, *, env: Mapping[str, str] = os.environ, given: Mapping[Path, bytes] | None = None
) -> tuple[Site, dict[Path, bytes]]:
    """As `load_site`, and the bytes of each settings file that was read, by path.

    Each file is read once, so these are the bytes that the site was made of. With `given` they
    are taken in place of the files.
    """
    loading = _Loading(path, env, given or {})
    return loading.site(), loading.texts


@dataclass
class _Loading:
    path: Path
    env: Mapping[str, str]
    given: Mapping[Path, bytes] = field(default_factory=dict)
    check: Check | None = None
    texts: dict[Path, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def site(self) -> Site:
        top = self._read(self.path)
        written = validated(SiteFile, top, self.problems) if top is not None else None
        root = self._root(written.root) if written is not None else Path()
        if top is not None:
            models = self._models(top, written)
            self._agreement(top, written, models)
        refuse(self.problems)
        assert written is not None  # or it had left a problem
        var_dir = _placed(written.var_dir, root, self.env)
        socket = _placed(written.admin.socket, var_dir, self.env)
        site = Site(
            models=tuple(_resolved(model, root, self.env) for model in models),
            var_dir=var_dir,
            admin=written.admin.model_copy(update={"socket": socket}),
            state=_state(written.state, root, self.env),
            audit=_audit(written.audit, root, self.env),
            tool_servers=tuple(
                _with_paths(one, root, self.env, "folder", "ca_file")
                for one in written.tool_servers
            ),
            **{name: getattr(written, name) for name in _UNCHANGED},
        )
        if top is not None and self.check is not None:
            self._disagree(top, self.check(site))
            refuse(self.problems)
        return site

    def _read(self, path: Path) -> Node | None:
        raw = self.given[path] if path in self.given else raw_of(path, self.problems)
        if raw is None:
            return None
        self.texts[path] = raw
        return decode(raw, str(path), self.env, self.problems)

    def _root(self, root: Path) -> Path:
        try:
            return _placed(root, self.path.parent, self.env).resolve()
        except (OSError, RuntimeError) as error:
            raise SettingsError(f"{self.path}: root: {error}") from None

    def _models(self, top: Node, written: SiteFile | None) -> tuple[ServedModel, ...]:
        """The models that could be read; the others have left a problem."""
        setting = written.model_files if written else SiteFile.model_fields["model_files"].default
        folder = Path(os.path.normpath(_placed(setting, self.path.parent, self.env)))
        entries = top.nearest(("models",)).elements()
        read_in = [self._model(index, entry, folder) for index, entry in enumerate(entries)]
        return tuple(model for model in read_in if model is not None)

    def _model(self, index: int, entry: Node, folder: Path) -> ServedModel | None:
        if not isinstance(entry.value, dict):
            return None
        within: Place = ("models", index)
        self._known(entry, {**ModelUse.model_fields, **ModelConfig.model_fields}, within)
        said = {k: v for k, v in entry.value.items() if k in ModelUse.model_fields}
        use = validated(ModelUse, replace(entry, value=said), self.problems, within)
        if use is None:
            return None
        below = self._model_file(use.use, entry.nearest(("use",)), folder)
        if below is None:
            return None
        self._known(below, ModelConfig.model_fields, ())
        overrides = {k: v for k, v in entry.value.items() if k in ModelConfig.model_fields}
        joined = below.overridden(overrides)
        fields = {k: v for k, v in joined.entries().items() if k in ModelConfig.model_fields}
        node = replace(joined, value=fields)
        config = validated(ModelConfig, node, self.problems, within, entry.file)
        if config is None:
            return None
        return ServedModel(config=config, **use.model_dump(exclude={"use"}))

    def _known(self, node: Node, known: Mapping[str, object], within: Place) -> None:
        for key, value in node.entries().items():
            if key not in known:
                text = unknown_key(key, known, within)
                self.problems.append(Problem(value.file, value.line, text))

    def _model_file(self, name: str, at: Node, folder: Path) -> Node | None:
        file = folder / f"{name}.yaml"
        try:
            there = file in self.given or file.is_file()
            text = None if there else _absent(name, folder)
        except OSError as error:
            text = f"model files in {folder} cannot be read: {error.strerror}"
        if text is not None:
            self.problems.append(Problem(at.file, at.line, text))
            return None
        node = self._read(file)
        if node is not None and not isinstance(node.value, dict):
            text = "a model file is a mapping that begins with name:"
            self.problems.append(Problem(node.file, node.line, text))
            return None
        return node

    def _agreement(
        self, top: Node, written: SiteFile | None, models: tuple[ServedModel, ...]
    ) -> None:
        conflicts: list[Conflict] = []
        if written is not None:
            listen = written.listen
            conflicts += of_door(listen.loopback, written.auth.mode, listen.host)
        if len(models) == len(top.nearest(("models",)).elements()):
            conflicts += of_models(models)
            if written is not None:
                conflicts += of_routes(written.routes, models)
                conflicts += of_tool_servers(written.tool_servers, models)
                conflicts += of_prices(written.prices, models)
        self._disagree(top, conflicts)

    def _disagree(self, top: Node, conflicts: Iterable[Conflict]) -> None:
        for place, text in conflicts:
            at = top.nearest(place)
            self.problems.append(Problem(at.file, at.line, text))


def _absent(name: str, folder: Path) -> str:
    there = ", ".join(sorted(one.stem for one in folder.glob("*.yaml"))) or "none"
    return f'no model file "{name}" in {folder}; available: {there}'


def _placed(path: Path, start: Path, env: Mapping[str, str]) -> Path:
    """`path` from `start`, with a leading `~` read from the environment."""
    if path.parts[:1] == ("~",) and "HOME" in env:
        path = Path(env["HOME"], *path.parts[1:])
    return start / path


def _audit(audit: Audit, root: Path, env: Mapping[str, str]) -> Audit:
    """With absolute paths."""
    placed = {
        name: None if path is None else _placed(path, root, env)
        for name, path in (("export_dir", audit.export_dir), ("key_file", audit.key_file))
    }
    return audit.model_copy(update=placed)


def _state(state: State, root: Path, env: Mapping[str, str]) -> State:
    """The same with absolute paths."""
    database, password_file = state.database, state.password_file
    if database is not None and database.startswith(SQLITE_PREFIX):
        path = _placed(Path(database.removeprefix(SQLITE_PREFIX)), root, env)
        database = f"{SQLITE_PREFIX}{path}"
    if password_file is not None:
        password_file = _placed(password_file, root, env)
    return state.model_copy(update={"database": database, "password_file": password_file})


_Section = TypeVar("_Section", bound=Frozen)


def _with_paths(one: _Section, root: Path, env: Mapping[str, str], *names: str) -> _Section:
    """The same with these paths absolute."""
    paths = {
        name: _placed(path, root, env) for name in names if (path := getattr(one, name)) is not None
    }
    return one.model_copy(update=paths)


def _resolved(model: ServedModel, root: Path, env: Mapping[str, str]) -> ServedModel:
    """The same model with absolute paths."""

    def placed(one: _Section, *names: str) -> _Section:
        return _with_paths(one, root, env, *names)

    config = placed(model.config, "chat_template", "harmony_vocab", "adapter_dir")
    config = config.model_copy(
        update={
            "source": placed(config.source, "path"),
            "adapters": tuple(placed(one, "path") for one in config.adapters),
            "evals": tuple(placed(one, "path") for one in config.evals),
        }
    )
    remote = model.engine and placed(model.engine, "key_file", "ca_file")
    return model.model_copy(update={"config": config, "engine": remote})
