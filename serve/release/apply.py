"""Apply a site file to the running server: one at a time, told as it goes, undone if it fails."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from serve.core.audit import NO_TRAIL, Trail
from serve.core.errors import Conflict, InhouseError, SettingsError
from serve.engines.states import State
from serve.pipeline import Pipeline
from serve.release.adapters import difference
from serve.release.archive import Archive, digest_of
from serve.release.difference import until_restart
from serve.release.events import Event, Outcome, Stage
from serve.release.plan import Plan, Present, plan
from serve.release.ports import Load, Loaded, Settle, Unit, Workshop
from serve.release.render import document, lines, summary
from serve.release.rollout import Change, Rollout, Tell
from serve.settings.cases import Cases, read_cases
from serve.settings.site import Site

log = logging.getLogger("inhouse.release")

DOCUMENT_END: Final = b"..."
"""YAML's own mark of the end of a document; what stands before it has not been cut off."""


class Release:
    """Turns the running site into another. Call from one event loop.

    `loaded` is the running site, `units` what runs for it, by model id.
    """

    def __init__(
        self,
        loaded: Loaded,
        units: Mapping[str, Unit],
        workshop: Workshop,
        pipeline: Pipeline,
        archive: Archive,
        *,
        load: Load,
        settle: Settle,
        trail: Trail = NO_TRAIL,
    ) -> None:
        self._loaded = loaded
        self._units = dict(units)
        self._workshop = workshop
        self._pipeline = pipeline
        self._archive = archive
        self._load = load
        self._settle = settle
        self._trail = trail
        self._task: asyncio.Task[Event] | None = None
        self._began_s = 0.0
        self._applying: Path | None = None
        self._last: dict[str, Any] | None = None
        self._rollout: Rollout | None = None

    @property
    def site(self) -> Site:
        """The running site."""
        return self._loaded.site

    @property
    def site_file(self) -> Path:
        """Where the running site came from."""
        return self._loaded.path

    def files(self) -> Mapping[Path, str | None]:
        """The settings files that the running site was read from, each with its SHA-256, and
        the model files beside them: a new site file may name one of those. Blocks."""
        texts = self._loaded.texts
        folders = {path.parent for path in texts if path != self._loaded.path}
        beside = {path: None for folder in folders for path in folder.glob("*.yaml")}
        return beside | {path: hashlib.sha256(text).hexdigest() for path, text in texts.items()}

    def state(self) -> Mapping[str, Any]:
        """The running site, the last good one, and how the last apply ended."""
        kept = self._archive.last_good()
        return {
            "site_file": str(self._loaded.path),
            "digest": digest_of(self._loaded.texts),
            "last_good": kept and {"site_file": str(kept.site_file), "digest": kept.digest,
                                   "time": kept.time},
            "applying": str(self._applying) if self._applying else None,
            "last_apply": self._last,
        }  # fmt: skip

    async def plan(self, site_file: Path) -> Mapping[str, Any]:
        """What applying the file would do. Raises SettingsError where it is wrong."""
        loaded, _ = await self._read(site_file)
        made, _ = await self._planned(loaded.site)
        return document(made)

    async def apply(self, site_file: Path) -> AsyncIterator[Mapping[str, Any]]:
        """Do it, telling each step; the last event has the outcome.

        Raises SettingsError where the file is wrong or the running server cannot become that
        site, and Conflict while another apply runs; nothing has been done then. Who stops
        listening does not stop it.
        """
        told: asyncio.Queue[Event | None] = asyncio.Queue()
        task = self._begin(site_file, told.put_nowait)
        task.add_done_callback(lambda _: told.put_nowait(None))
        while (event := await told.get()) is not None:
            yield event.plain()
        yield (await task).plain()

    async def keep_up(self, site_file: Path | None = None) -> None:
        """Apply the site file (by default the running site's) and log how that ended."""
        path = site_file or self._loaded.path
        while (task := self._task) is not None and not task.done():
            await asyncio.wait({task})
        try:
            await self._begin(path, lambda event: None)
        except InhouseError as error:
            log.error("not applied: %s", error.message, extra={"site_file": str(path)})

    async def prove(self) -> None:
        """Keep the site that the server was started with as the last good one, once every model
        that is loaded at startup answers."""
        first = self._loaded
        changed = asyncio.Event()
        needed = [one for one in self._pipeline.served if one.model.load == "startup"]
        for one in needed:
            one.backend.subscribe(changed.set)
        while any(one.backend.status.state is not State.READY for one in needed):
            await changed.wait()
            changed.clear()
            if self._loaded is not first:
                return
        await self._keep()

    async def close(self) -> None:
        """Leave off what is under way; what it had started is stopped."""
        if self._task is not None:
            if self._rollout is not None:
                self._rollout.closing = True
            self._task.cancel()
            await asyncio.wait({self._task})

    def _begin(self, site_file: Path, tell: Tell) -> "asyncio.Task[Event]":
        if self._task is not None and not self._task.done():
            raise Conflict(
                f"{self._applying} is being applied, since {time.monotonic() - self._began_s:.0f} "
                "s; wait for its end"
            )
        self._applying = site_file
        self._began_s = time.monotonic()
        self._task = asyncio.create_task(self._run(site_file, tell), name="apply")
        # Its end is logged, whoever still listens.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._task

    async def _run(self, site_file: Path, tell: Tell) -> Event:
        def say(event: Event) -> None:
            log.debug("apply: %s", event.text)
            tell(event)

        outcome, text, before = "refused", "", digest_of(self._loaded.texts)
        try:
            async with self._pipeline.changing:
                ended = await self._applied(site_file, say)
            outcome, text = str(ended.outcome), ended.text
            return ended
        except InhouseError as error:
            text = error.message
            raise
        except BaseException as error:
            outcome, text = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            self._applying = None
            self._last = {"site_file": str(site_file), "outcome": outcome, "text": text,
                          "took_s": round(time.monotonic() - self._began_s, 3)}  # fmt: skip
            level = logging.INFO if outcome == Outcome.APPLIED else logging.ERROR
            told = {name: value for name, value in self._last.items() if name != "text"}
            log.log(level, "apply: %s", text, extra=told)
            digests = {"digest_before": before, "digest": digest_of(self._loaded.texts)}
            self._trail.record("site.apply", self._last | digests)

    async def _applied(self, site_file: Path, tell: Tell) -> Event:
        loaded, cases = await self._read(site_file)
        settle = await asyncio.to_thread(self._settle, loaded.site)
        tell(Event(Stage.PARSED, f"{site_file} is valid"))
        made, fingerprints = await self._planned(loaded.site)
        if made.refused:
            raise SettingsError("\n".join(made.refused))
        for line in lines(made):
            tell(Event(Stage.PLANNED, line))
        before = self._pipeline.served
        if made.changes or made.at_once:
            change = Change(loaded.site, made, cases, fingerprints, settle)
            self._rollout = Rollout(
                change, self._units, self._workshop, self._pipeline, self._archive, tell
            )
            try:
                self._units = await self._rollout.run()
            except (InhouseError, OSError) as error:
                why = error.message if isinstance(error, InhouseError) else str(error)
                return Event(Stage.DONE, f"rolled back, because {why}", outcome=Outcome.ROLLED_BACK)
        else:
            self._pipeline.publish(await asyncio.to_thread(self._workshop.looked_again, before))
            settle()
        for line in difference(before, self._pipeline.served).lines():
            tell(Event(Stage.ADAPTERS, line))
        kept = until_restart(self._loaded.site, loaded.site)
        self._loaded = Loaded(loaded.path, kept, loaded.texts)
        return await self._recorded(made)

    async def _keep(self) -> None:
        try:
            await asyncio.to_thread(self._archive.keep, self._loaded.path, self._loaded.texts)
        except OSError as error:
            log.error("the last good site is not kept: %s", error)

    async def _recorded(self, made: Plan) -> Event:
        await self._keep()
        text = f"applied: {summary(made)}"
        return Event(Stage.DONE, text, outcome=Outcome.APPLIED)

    async def _read(self, site_file: Path) -> tuple[Loaded, dict[str, tuple[Cases, ...]]]:
        loaded = await asyncio.to_thread(self._load, site_file)
        for path, text in loaded.texts.items():
            refuse_cut(path, text, self._loaded.texts.get(path))
        return loaded, await asyncio.to_thread(_cases_of, loaded.site)

    async def _planned(self, site: Site) -> tuple[Plan, dict[str, str]]:
        fingerprints = await asyncio.to_thread(
            lambda: {one.id: self._workshop.fingerprint(one) for one in site.models}
        )
        present = Present(
            self._loaded.site,
            {one.id: one.fingerprint for one in self._pipeline.served},
            frozenset(key for key, unit in self._units.items() if unit.awake),
        )
        return plan(present, site, fingerprints, await self._workshop.room(site)), fingerprints


def refuse_cut(path: Path, text: bytes, running: bytes | None) -> None:
    """Raise SettingsError for a file that may be the beginning of a longer one.

    A cut can leave a file that is valid and says something else, so a file is taken for whole
    where it says so by a last line `...`. A file that has never said so must end a line, and not
    be the beginning of the one that runs.
    """
    if _ends(text):
        return
    way_out = "if it is whole, end it with a line `...`"
    if running is not None and _ends(running):
        raise SettingsError(
            f"{path}: may have been cut off: the file that runs ends with a line `...`, and this "
            f"one does not; {way_out}"
        )
    if not text.endswith(b"\n"):
        raise SettingsError(f"{path}: may have been cut off: its last line does not end; {way_out}")
    if running is not None and len(text) < len(running) and running.startswith(text):
        raise SettingsError(
            f"{path}: may have been cut off: it is the beginning of the file that runs; {way_out}"
        )


def _ends(text: bytes) -> bool:
    return text.rstrip(b"\n").rpartition(b"\n")[2].rstrip() == DOCUMENT_END


def _cases_of(site: Site) -> dict[str, tuple[Cases, ...]]:
    """All questions of a site's models, so that a wrong one is found before anything is done."""
    return {one.id: tuple(read_cases(each) for each in one.config.evals) for one in site.models}
