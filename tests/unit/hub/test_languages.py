"""Languages: which one a reader gets, what a catalogue must hold, how a finished sentence is put into other words."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from himalia_hub.languages import catalogue, choosing, counted, gettext, sentence, speak
from himalia_hub.languages.catalogue import ENGLISH, LOCALE, PSEUDO, load, load_all
from himalia_hub.languages.sentences import SENTENCES

TOOL = Path(__file__).parents[2] / "tools" / "translations"
PARTS = [LOCALE.parents[1], LOCALE.parents[3] / "spawner", LOCALE.parents[3] / "proxy"]
GERMAN = LOCALE / "de/LC_MESSAGES/himalia.po"


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    speak(ENGLISH)


def german() -> Catalog:
    with GERMAN.open("rb") as file:
        return read_po(file)


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-CH, fr;q=0.9, de;q=0.7, *;q=0.5", "de"),
        ("en;q=0.4, de;q=0.6", "de"),
        ("de;q=0, en", "en"),
        ("de;q=x, ;;,=", "en"),
        ("DE", "de"),
        ("*", "en"),
    ],
)
def test_the_browsers_languages_decide_by_their_weight(accepted: str, expected: str) -> None:
    assert choosing.best(load_all(("en", "de")), accepted).tag == expected


def test_a_language_without_a_catalogue_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no catalogue of 'xx'"):
        load("xx")


def test_catalogues_are_what_the_code_and_the_templates_say() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_message_has_words_in_german() -> None:
    missing = [
        one.id
        for one in german()
        if one.id and not all(one.string if isinstance(one.string, tuple) else [one.string])
    ]

    assert not missing


def test_translations_keep_the_holes_and_the_markup_of_their_messages() -> None:
    def parts(text: str) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)s|%%|</?[a-z]+|href=|&[a-z]+;", text))

    wrong = []
    for one in german():
        ids, strings = ((x,) if isinstance(x, str) else x for x in (one.id, one.string))
        wrong += [(a, b) for a, b in zip(ids, strings, strict=True) if a and b and parts(a) != parts(b)]

    assert not wrong


def test_a_sentence_with_values_is_found_by_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SENTENCES", ("%(name)s has no room",))
    catalogue._shapes.cache_clear()
    try:
        speak(catalogue.Language("xx", "X", _Upper()))

        assert sentence("ada’s\ndisk has no room") == "NO ROOM FOR ada’s\ndisk"
        assert sentence("something else") == "something else"
    finally:
        catalogue._shapes.cache_clear()


class _Upper(catalogue.gettext.NullTranslations):
    def gettext(self, message: str) -> str:
        return {"%(name)s has no room": "NO ROOM FOR %(name)s"}.get(message, message)


@pytest.mark.parametrize(
    ("count", "english", "german"),
    [
        (0, "idle for 0 hours", "0 Stunden untätig"),
        (1, "idle for 1 hour", "1 Stunde untätig"),
        (1.0, "idle for 1 hour", "1 Stunde untätig"),
        (1.5, "idle for 1.5 hours", "1.5 Stunden untätig"),
        (2, "idle for 2 hours", "2 Stunden untätig"),
    ],
)
def test_a_sentence_that_says_how_many_has_the_form_of_its_number(
    count: float, english: str, german: str
) -> None:
    said = f"idle for {counted('%(num)s hour', '%(num)s hours', count)}"

    assert said == english
    speak(load("de"))
    assert sentence(said) == german


def test_the_pseudo_locale_marks_only_what_a_catalogue_holds() -> None:
    speak(load(PSEUDO))

    assert gettext("never") == "⟦never⟧"
    assert gettext("nobody listed this") == "nobody listed this"


def _literals() -> Iterator[str]:
    """All texts that the code holds, with a hole where an f-string has a value."""
    for path in (file for part in PARTS for file in part.rglob("*.py") if file.parent.name != "sentences"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%\(\w+\)s", "\0", node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values
                )


def test_every_listed_sentence_is_one_that_the_code_says() -> None:
    forms = (form for one in SENTENCES for form in ((one,) if isinstance(one, str) else one))
    listed = {re.sub(r"%\(\w+\)s", "\0", form).replace("%%", "%"): form for form in forms}
    said = set(_literals())

    assert [one for shape, one in listed.items() if shape not in said] == []


def test_a_catalogue_in_a_folder_wins_over_ours(tmp_path: Path) -> None:
    other = Catalog()
    other.add("never", "nimmer")
    buffer = io.BytesIO()
    write_mo(buffer, other)
    target = tmp_path / "de/LC_MESSAGES/himalia.mo"
    target.parent.mkdir(parents=True)
    target.write_bytes(buffer.getvalue())

    found = load("de", (tmp_path,)).translations

    assert found.gettext("never") == "nimmer"
    assert found.gettext("just now") == load("de").translations.gettext("just now")
