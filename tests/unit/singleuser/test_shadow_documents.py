"""Changes of an open document, as the Language Server Protocol writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from himalia_singleuser.lsp.shadows import MOST_DOCUMENTS, Shadows, changed


def change(begin: tuple[int, int], end: tuple[int, int], text: str) -> dict[str, Any]:
    first, last = ({"line": line, "character": column} for line, column in (begin, end))
    return {"range": {"start": first, "end": last}, "text": text}


@pytest.mark.parametrize(
    ("text", "one", "after"),
    [
        ("a\nb\nc", change((1, 0), (1, 1), "B"), "a\nB\nc"),
        ("a\nb\nc", change((0, 1), (2, 0), ""), "ac"),
        ("a\nb", change((1, 1), (1, 1), "\nc\n"), "a\nb\nc\n"),
        ("", change((0, 0), (0, 0), "x"), "x"),
        ("ab", change((0, 9), (7, 3), "!"), "ab!"),
        ("\U0001f9c0z", change((0, 2), (0, 3), "y"), "\U0001f9c0y"),
        ("abc", change((0, 2), (0, 1), "-"), "ab-c"),
        ("abc", {"text": "all"}, "all"),
    ],
)
def test_a_change_puts_its_text_in_place_of_its_range(text: str, one: dict[str, Any], after: str) -> None:
    assert changed(text, [one]) == after


def test_documents_are_bounded_and_all_go_in_the_end(tmp_path: Path) -> None:
    shadows, folder = Shadows(tmp_path), tmp_path / ".virtual_documents"
    for number in range(MOST_DOCUMENTS + 5):
        uri = (folder / f"{number}.py").as_uri()
        shadows.note(
            b'{"method":"textDocument/didOpen","params":{"textDocument":{"uri":"%s","text":""}}}'
            % uri.encode()
        )
    assert len(list(folder.iterdir())) == MOST_DOCUMENTS

    shadows.clear()

    assert list(tmp_path.iterdir()) == []
