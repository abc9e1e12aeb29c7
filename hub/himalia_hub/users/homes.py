"""Under which name a person's files are kept: the name of their first day here, and never one that is another's.

The spawners call folders and volumes by it, so a rename need move nothing: it is noted, and a stopped server finds its
files again wherever they lie.
"""

from __future__ import annotations

import itertools

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from himalia_hub.db.prepared import Prepared
from himalia_hub.users.models import User

_OTHER = aliased(User)
_ASKED = Prepared(
    sa.select(
        User.name,
        User.kept_as,
        sa.exists().where(_OTHER.kept_as == User.name, _OTHER.id != User.id),
        User.guest,
    ).where(User.id == sa.bindparam("user_id"))
)


def files_of(db: Session, user_id: int) -> str:
    """The name for the spawner. Noted where it is not their own: whoever had that before left their files under it."""
    return files_and_guest(db, user_id)[0]


def files_and_guest(db: Session, user_id: int) -> tuple[str, bool]:
    """The same, and whether the person is the guest of a throw-away session."""
    found = _ASKED.row(db, {"user_id": user_id})
    if found is None:
        raise sa.exc.NoResultFound(f"no person has the row {user_id}")
    name, kept_as, is_anothers, guest = found
    if kept_as or not is_anothers:
        return str(kept_as or name), guest
    return keep(db, user_id, _free(db, name)), guest


def keep(db: Session, user_id: int, wanted: str) -> str:
    """Note that their files stay under this name, whatever they will be called."""
    db.execute(sa.update(User).where(User.id == user_id).values(kept_as=wanted))
    return wanted


def _free(db: Session, name: str) -> str:
    """A name like this that nobody's files are under, nor would be by their own name."""
    for number in itertools.count(2):
        wanted = f"{name[:240]}-{number}"
        taken = sa.select(User.id).where(sa.or_(User.name == wanted, User.kept_as == wanted))
        if db.scalar(taken) is None:
            return wanted
    raise AssertionError("counting never ends")
