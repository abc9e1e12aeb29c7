"""Catalogues of translated messages, as GNU gettext keeps them (`LANGUAGE/LC_MESSAGES/himalia.mo`)."""

from __future__ import annotations

import functools
import gettext
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from himalia_hub.languages.sentences import SENTENCES, Sentence

LOCALE = Path(__file__).parent / "locale"
DOMAIN = "himalia"
PSEUDO = "qps-ploc"
"""The pseudo-locale: every message that is ready for translation stands in ⟦brackets⟧, so what is not can be seen."""

_HOLE = re.compile(r"%\((\w+)\)s")


def many(shown: str) -> int:
    """The number whose form a number takes that is shown so: `1,000` its own, `1.5` that of two."""
    digits = shown.replace(",", "")
    return int(digits) if digits.isascii() and digits.isdigit() else 2


@dataclass(frozen=True, slots=True)
class Language:
    """A language: its tag (BCP 47), its own name for itself, and its messages."""

    tag: str
    title: str
    translations: gettext.NullTranslations = field(default_factory=gettext.NullTranslations)

    def sentence(self, text: str) -> str:
        """This finished English sentence in this language; itself where it is none of those listed."""
        if self.tag == "en":
            return text
        if (whole := self.translations.gettext(text)) != text:
            return whole
        for shape, message in _shapes():
            if found := shape.fullmatch(text):
                values = {name: self.sentence(value) for name, value in found.groupdict().items()}
                return self._in_form(message, found.groupdict()) % values
        return text

    def _in_form(self, message: Sentence, said: Mapping[str, str]) -> str:
        if isinstance(message, str):
            return self.translations.gettext(message)
        return self.translations.ngettext(*message, many(said["num"]))


class _Unknown(gettext.NullTranslations):
    """Answers for the messages that a catalogue does not have."""

    def gettext(self, message: str) -> str:
        return ""

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return ""


class _Pseudo(gettext.GNUTranslations):
    """Marks what a real catalogue could translate: it knows the same messages, and no others."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧" if super().gettext(message) else message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        message = msgid1 if n == 1 else msgid2
        return f"⟦{message}⟧" if super().ngettext(msgid1, msgid2, n) else message


OWN_NAME = "English"
"""The message whose translation is what a language calls itself: `Deutsch`."""

ENGLISH = Language("en", OWN_NAME)


@functools.cache
def load(tag: str, folders: tuple[Path, ...] = ()) -> Language:
    """The language of this tag; catalogues in `folders` win. FileNotFoundError when there is none."""
    if tag == ENGLISH.tag:
        return ENGLISH
    if tag == PSEUDO:
        with (LOCALE / "de/LC_MESSAGES/himalia.mo").open("rb") as file:
            pseudo = _Pseudo(file)
        pseudo.add_fallback(_Unknown())
        return Language(tag, "⟦Pseudo⟧", pseudo)
    found = [folder / tag / "LC_MESSAGES" / f"{DOMAIN}.mo" for folder in (*folders, LOCALE)]
    paths = [path for path in found if path.is_file()]
    if not paths:
        raise FileNotFoundError(f"no catalogue of {tag!r}: {found[0]} is not there")
    first, *others = [_read(path) for path in paths]
    for other in others:
        first.add_fallback(other)
    return Language(tag, first.gettext(OWN_NAME), first)


def _read(path: Path) -> gettext.GNUTranslations:
    with path.open("rb") as file:
        return gettext.GNUTranslations(file)


@functools.cache
def load_all(tags: tuple[str, ...], folders: tuple[Path, ...] = ()) -> tuple[Language, ...]:
    """Several, in this order."""
    return tuple(load(tag, folders) for tag in tags)


@functools.cache
def _shapes() -> tuple[tuple[re.Pattern[str], Sentence], ...]:
    """The listed sentences as patterns: a hole matches any text. Those with the most words of their own come first."""
    forms = [(form, one) for one in SENTENCES for form in ((one,) if isinstance(one, str) else one)]

    def pattern(message: str) -> re.Pattern[str]:
        parts = _HOLE.split(message.replace("%%", "%"))
        return re.compile(
            "".join(re.escape(part) if at % 2 == 0 else f"(?P<{part}>.+?)" for at, part in enumerate(parts)),
            re.DOTALL,
        )

    forms.sort(key=lambda form: -len(_HOLE.sub("", form[0])))
    return tuple((pattern(form), one) for form, one in forms)
