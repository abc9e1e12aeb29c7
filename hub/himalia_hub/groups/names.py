"""What a person's groups come to, for who decides what they may start. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class GroupName(str):
    """A group's name that knows the profiles its members were given on the page of groups.

    A string, for most who ask for somebody's groups want no more; those that the database gives are of this kind.
    """

    __slots__ = ("profiles",)
    profiles: frozenset[str]

    def __new__(cls, name: str, profiles: Iterable[str] = ()) -> Self:
        made = super().__new__(cls, name)
        made.profiles = frozenset(profiles)
        return made


def gives(group: str, profile: str) -> bool:
    """Whether the members of this group were given this profile on the page."""
    return isinstance(group, GroupName) and profile in group.profiles


def is_name(text: str) -> bool:
    """Whether a group can be called so."""
    return bool(text.strip()) and len(text) <= 255 and "/" not in text and text.isprintable()
