"""Which notebooks' outputs may run scripts in the browser: those whose signature this person's store knows.

Same secret, hash and database as nbformat's notary, so notebooks signed by either are trusted by both.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from himalia_singleuser.contents.notebooks import Notebook, cells_of, outputs_of

ALGORITHM = "sha256"
MOST_KEPT = 65535
SAFE_KEYS = frozenset({"output_type", "execution_count", "metadata"})
TABLE = (
    "CREATE TABLE IF NOT EXISTS nbsignatures (id integer PRIMARY KEY AUTOINCREMENT, algorithm text, "
    "signature text, path text, last_seen timestamp)"
)
INDEX = "CREATE INDEX IF NOT EXISTS algosig ON nbsignatures(algorithm, signature)"


class Notary:
    """Signs and recognises notebooks. Blocking: call it from a thread."""

    def __init__(self, data_dir: Path) -> None:
        self._secret_file = data_dir / "notebook_secret"
        self._database = data_dir / "nbsignatures.db"

    def state(self) -> tuple[int, int]:
        """Changes whenever the store does: its time in nanoseconds and its size, zeros when there is none."""
        try:
            status = self._database.stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_size

    def mark(self, notebook: Notebook) -> None:
        """Put `trusted` into the metadata of the code cells, for the front end."""
        known = self._is_known(self._digest(notebook))
        for cell in _code_cells(notebook):
            cell["metadata"]["trusted"] = known or _is_harmless(cell)

    def sign_if_trusted(self, notebook: Notebook) -> None:
        """Remember a notebook of which every code cell came back trusted; drop the marks in any case."""
        trusted = True
        for cell in _code_cells(notebook):
            said = cell["metadata"].pop("trusted", False) is True
            trusted = trusted and (said or _is_harmless(cell))
        if trusted:
            self.sign(notebook)

    def sign(self, notebook: Notebook) -> None:
        """Remember this content. A store that cannot be written only means: not trusted next time."""
        import sqlite3

        digest = self._digest(notebook)
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as db:
            seen = datetime.now(UTC).isoformat(" ")
            row = (seen, ALGORITHM, digest)
            changed = db.execute(
                "UPDATE nbsignatures SET last_seen = ? WHERE algorithm = ? AND signature = ?", row
            )
            if changed.rowcount == 0:
                db.execute("INSERT INTO nbsignatures (last_seen, algorithm, signature) VALUES (?, ?, ?)", row)
                db.execute(
                    "DELETE FROM nbsignatures WHERE id IN "
                    "(SELECT id FROM nbsignatures ORDER BY last_seen DESC LIMIT -1 OFFSET ?)",
                    (MOST_KEPT,),
                )

    def _is_known(self, digest: str) -> bool:
        import sqlite3

        if not self._database.exists():
            return False
        query = "SELECT 1 FROM nbsignatures WHERE algorithm = ? AND signature = ?"
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as db:
            return db.execute(query, (ALGORITHM, digest)).fetchone() is not None
        return False

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        import sqlite3

        self._database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self._database, timeout=5)) as db, db:
            db.execute(TABLE)
            db.execute(INDEX)
            yield db

    def _digest(self, notebook: Notebook) -> str:
        digest = hmac.new(self._secret(), digestmod=hashlib.sha256)
        for piece in _pieces(notebook):
            digest.update(piece)
        return digest.hexdigest()

    def _secret(self) -> bytes:
        try:
            return self._secret_file.read_bytes()
        except OSError:
            made = base64.encodebytes(os.urandom(1024))
        try:
            self._secret_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._secret_file.with_name(f"notebook_secret.{secrets.token_hex(4)}")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(made)
            try:
                # link() fails when another server was first; then its secret is everybody's.
                os.link(draft, self._secret_file)
            finally:
                draft.unlink()
        except OSError:
            with contextlib.suppress(OSError):
                return self._secret_file.read_bytes()
        return made


def _code_cells(notebook: Notebook) -> Iterator[dict[str, Any]]:
    for cell in cells_of(notebook):
        if cell.get("cell_type") == "code" and isinstance(cell.get("metadata"), dict):
            yield cell


def _is_harmless(cell: dict[str, Any]) -> bool:
    """No output but plain streams and errors."""
    return not any(
        output.get("output_type") in {"execute_result", "display_data"} and set(output) - SAFE_KEYS
        for output in outputs_of(cell)
    )


def _pieces(value: Any) -> Iterator[bytes]:
    """Everything in the notebook in a fixed order, as nbformat's notary hashes it."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield key.encode("utf-8", "surrogatepass")
            yield from _pieces(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _pieces(item)
    else:
        yield str(value).encode("utf-8", "surrogatepass")
