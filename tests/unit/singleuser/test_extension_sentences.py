"""What our extensions of the front ends say is said in every language, and nothing more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import himalia_singleuser

FOLDER = Path(himalia_singleuser.__file__).parent / "labextensions"
LANGUAGES = sorted((FOLDER / "himalia-status/static").glob("*.json"))
SAID = re.compile(r"\bsay\(\s*'((?:[^'\\]|\\.)+)'")
TOLD = re.compile(r"const WHY = \[(.*?)\];", re.DOTALL)
PLACE = re.compile(r"\{\w+\}")


def sentences() -> set[str]:
    scripts = [file.read_text() for file in FOLDER.glob("himalia-*/static/*.js")]
    told = {
        text
        for script in scripts
        for listed in TOLD.findall(script)
        for text in re.findall(r"'([^']+)'", listed)
    }
    return told | {text for script in scripts for text in SAID.findall(script)}


def test_there_are_sentences_and_german() -> None:
    assert len(sentences()) > 20
    assert "de" in {file.stem for file in LANGUAGES}


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_every_sentence_is_translated_with_its_places(file: Path) -> None:
    words = json.loads(file.read_text())

    assert words.keys() == sentences()
    for sentence, text in words.items():
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(sentence)), sentence
