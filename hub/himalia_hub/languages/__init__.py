"""Which language a person reads, and texts in it. English is the language of the code; other words are in `locale/`.

The language belongs to the request (a context variable): what is written to rows, logs and the API stays English, and
is put into the reader's words when a page is drawn (`sentence`).
"""

from __future__ import annotations

from contextvars import ContextVar

from himalia_hub.languages.catalogue import ENGLISH, Language, many

__all__ = ["counted", "gettext", "later", "many", "ngettext", "sentence", "speak", "spoken"]

_spoken: ContextVar[Language] = ContextVar("language", default=ENGLISH)


def speak(language: Language) -> None:
    """Everything drawn from here on, in this request, is in this language."""
    _spoken.set(language)


def spoken() -> Language:
    """The language of this request; English outside of one."""
    return _spoken.get()


def gettext(message: str, /) -> str:
    """The message in the reader's language; itself where the catalogue has no words for it."""
    return _spoken.get().translations.gettext(message)


def ngettext(one: str, many: str, count: int, /) -> str:
    """The same, in the form that this number of things takes."""
    return _spoken.get().translations.ngettext(one, many, count)


def counted(one: str, more: str, num: float | str, /, **values: object) -> str:
    """An English sentence that is finished now, in the form for this number, which fills its hole `num`.

    The pair stands in `sentences/`: a page shows it in the form that the number takes in its reader's language.
    """
    shown = num if isinstance(num, str) else f"{num:d}" if isinstance(num, int) else f"{num:g}"
    return (one if shown == "1" else more) % {"num": shown, **values}


def later(message: str, /) -> str:
    """Mark a message of a table: it is translated where it is shown."""
    return message


def sentence(text: str, /) -> str:
    """A finished English sentence (of an error, a step, a row) in the reader's language, with its values kept.

    Sentences that nobody listed in `sentences.py` stay English.
    """
    return _spoken.get().sentence(text)
