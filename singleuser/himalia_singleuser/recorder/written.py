"""Writing recorded runs into a notebook file, while clients still go by the version they know. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from himalia_singleuser.contents import atomic, notebooks
from himalia_singleuser.contents.models import Model
from himalia_singleuser.contents.store import Store, Wanted
from himalia_singleuser.recorder.merge import Recorded, find, put_in, state_of

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Written:
    """A file that only the recorder has changed since a client saved it.

    Clients are told the hash and time of that save, or they would ask the person whose version is to stay.
    """

    stamp: Stamp
    hash: str
    told_hash: str
    told_modified: str

    def tell(self, model: Model) -> None:
        """Put into a model what clients know."""
        model["last_modified"] = self.told_modified
        if model.get("hash") is not None:
            model["hash"] = self.told_hash


def stamp_of(file: Path) -> Stamp | None:
    """What changes whenever somebody else writes the file; None when it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def states(store: Store, path: str, cell_ids: Sequence[str]) -> dict[str, str]:
    """The cells of the file on disk (`state_of`); ApiError when it is no notebook any more."""
    _, file = store.root.shown(path)
    if not file.is_file():
        return {}
    notebook = notebooks.parse(file.read_bytes(), path)
    return {cell_id: state_of(find(notebook, cell_id)) for cell_id in cell_ids}


def write(store: Store, path: str, runs: Sequence[Recorded], before: Written | None) -> Written:
    """Write the runs into the file as it is on disk now, whoever changed it. ApiError when that cannot be.

    The notebook stays trusted if it was, because what is added is the kernel's own.
    """
    _, file = store.root.writable(path)
    model = store.get(path, Wanted(type="notebook", content=True, hash=True))
    if before is None or before.stamp != stamp_of(file):
        before = Written((0, 0, 0), "", model["hash"], model["last_modified"])
    notebook = model["content"]
    put_in(notebook, runs)
    store.notary.sign_if_trusted(notebook)
    atomic.write(file, notebooks.serialise(notebook))
    stamp = stamp_of(file)
    return Written(stamp or (0, 0, 0), store.hash_of(path) or "", before.told_hash, before.told_modified)
