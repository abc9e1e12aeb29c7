"""Answers to GETs that were given before, for as long as what they tell of has not changed.

Front ends ask for the same folder every ten seconds and for the same notebook at each save. An answer is kept beside
the state of the disk that it tells of, and that state is read again each time: nothing has to be told of changes, so
what a kernel, a shell or another machine writes is seen as always. Everything here blocks: call it from a thread.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import stat
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate
from pathlib import Path

from himalia_singleuser.contents.models import Model
from himalia_singleuser.contents.store import Store, Wanted

MOST_BYTES = 4 * 2**20
MOST_ANSWERS = 128
QUIET_S = 2.0
"""A file changed more recently may change again without a new time, which some file systems count in whole seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent. The body is None once it has been forgotten; the tag then still serves who has the body."""

    body: bytes | None
    tag: str
    modified: str
    path: str


class Answers:
    """The answers of one server, least recently used forgotten first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, Wanted], tuple[bytes, Answer]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: str, wanted: Wanted, tag: str | None) -> Answer:
        """The model at `path` as JSON; without the body if `tag` says that the client has it. Raises ApiError."""
        asked = (path, wanted)
        state = self._state(path, wanted)
        if state is not None and (kept := self._find(asked, state)):
            if kept.tag == tag:
                return Answer(None, kept.tag, kept.modified, kept.path)
            if kept.body is not None:
                return kept
        answer = _encode(self._store.get(path, wanted))
        if state is not None:
            self._keep(asked, state, answer)
        return answer if answer.tag != tag else Answer(None, answer.tag, answer.modified, answer.path)

    def _find(self, asked: tuple[str, Wanted], state: bytes) -> Answer | None:
        with self._lock:
            before, answer = self._kept.get(asked, (b"", None))
            if before != state:
                return None
            self._kept.move_to_end(asked)
            return answer

    def _keep(self, asked: tuple[str, Wanted], state: bytes, answer: Answer) -> None:
        if answer.body is not None and len(answer.body) > MOST_BYTES // 2:
            answer = Answer(None, answer.tag, answer.modified, answer.path)
        with self._lock:
            self._bytes += len(answer.body or b"") - self._size(self._kept.pop(asked, None))
            self._kept[asked] = (state, answer)
            while self._bytes > MOST_BYTES or len(self._kept) > MOST_ANSWERS:
                self._bytes -= self._size(self._kept.popitem(last=False)[1])

    @staticmethod
    def _size(kept: tuple[bytes, Answer] | None) -> int:
        return len(kept[1].body or b"") if kept else 0

    def _state(self, path: str, wanted: Wanted) -> bytes | None:
        """All that the answer depends on, or None when that cannot be told from outside."""
        _, file = self._store.root.shown(path)
        try:
            status = file.stat()
            if stat.S_ISDIR(status.st_mode):
                return _state_of_folder(file, status) if wanted.content else None
        except OSError:
            return None
        signatures = self._store.notary.state() if wanted.content else (0, 0)
        if time.time() - max(status.st_mtime, status.st_ctime, signatures[0] / 1e9) < QUIET_S:
            return None
        return marshal.dumps((_facts(status), signatures))


def _facts(status: os.stat_result) -> tuple[int, ...]:
    return (
        *(status.st_dev, status.st_ino, status.st_mode, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )


def _state_of_folder(folder: Path, status: os.stat_result) -> bytes | None:
    """Names and facts of all entries: a listing tells no more than these. A link's target may change unseen: None."""
    facts: list[object] = [_facts(status)]
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                return None
            facts += (os.fsencode(entry.name), _facts(entry.stat(follow_symlinks=False)))
    return hashlib.sha256(marshal.dumps(facts)).digest()


def _encode(model: Model) -> Answer:
    body = json.dumps(model, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    tag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
    return Answer(body, tag, last_modified(model), model["path"])


def last_modified(model: Model) -> str:
    """The date of a model as HTTP writes it."""
    return formatdate(datetime.fromisoformat(model["last_modified"]).timestamp(), usegmt=True)
