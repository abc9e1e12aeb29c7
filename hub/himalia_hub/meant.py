"""The known words nearest to one that is not."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """The `n` best of those at least so alike, the best first."""
    import difflib  # for errors only: a third of a megabyte

    return difflib.get_close_matches(word, list(known), n, cutoff)
