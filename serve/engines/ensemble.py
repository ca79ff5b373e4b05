"""The backend of a model, made of what answers for it, and taken apart again for those who look."""

from collections.abc import Sequence

from serve.engines.backend import Backend
from serve.engines.division import LABEL
from serve.engines.remote import RemoteEngine
from serve.engines.replicas import Member, Replicas
from serve.engines.resident import Resident
from serve.settings.model import ServedModel


def joined(model: ServedModel, residents: Sequence[Resident], waiting_max: int) -> Backend:
    """One backend of a model's engines here, or of the servers elsewhere that its site names.

    Raises SettingsError where those cannot be asked: no key, no certificates. They are watched
    from `RemoteEngine.start` on.
    """
    if model.engine is None:
        # Not by their keys: an engine that takes another's place gets its conversations.
        members: dict[str, Member] = {
            f"{model.id}{LABEL}{number}": one for number, one in enumerate(residents, 1)
        }
    else:
        members = {
            one.url: RemoteEngine(
                model.id, one, model.config.task, name=model.config.name, waiting_max=waiting_max
            )
            for one in model.engine.each()
        }
    if len(members) == 1:
        return next(iter(members.values()))
    return Replicas(model.id, members)


def parts_of(backend: Backend) -> dict[str, Backend]:
    """The engines behind a backend, by name; the only one has none."""
    return dict(backend.members) if isinstance(backend, Replicas) else {"": backend}


def remotes_of(backend: Backend) -> tuple[RemoteEngine, ...]:
    """Those of its engines that are elsewhere."""
    return tuple(one for one in parts_of(backend).values() if isinstance(one, RemoteEngine))


def locals_of(backend: Backend) -> dict[str, Backend]:
    """Those of its engines that are here, by the number of the replica; the only one has none."""
    return {
        label.rpartition(LABEL)[2]: one
        for label, one in parts_of(backend).items()
        if not isinstance(one, RemoteEngine)
    }
