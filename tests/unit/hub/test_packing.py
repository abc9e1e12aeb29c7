from __future__ import annotations

import gzip
import random

import pytest

from himalia_hub.pages.packing import Packed

HOLE, TOKEN = "<hole>", "abc-DEF_123"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HOLE,
        f"{HOLE}{HOLE}",
        f"{HOLE}é\n{HOLE} and {HOLE}",
        "nothing to fill",
        f"{'long ' * 20_000}{HOLE}",
    ],
)
def test_what_is_packed_in_parts_is_the_text_with_its_token_to_whoever_unpacks_it(text: str) -> None:
    packed, filled = Packed.of(text, HOLE), text.replace(HOLE, TOKEN).encode()

    assert packed.filled(TOKEN) == filled
    assert gzip.decompress(packed.filled_and_packed(TOKEN)) == filled


def test_the_length_of_a_packed_page_tells_nothing_of_its_token() -> None:
    guesses = [f"{TOKEN[:known]}{'x' * (len(TOKEN) - known)}" for known in range(len(TOKEN) + 1)]
    pages = [Packed.of(f'<input value="{HOLE}"><p>{guess} {guess}</p>', HOLE) for guess in guesses]
    tokens = [TOKEN, *guesses]

    for page in pages:
        assert len({len(page.filled_and_packed(token)) for token in tokens}) == 1


def test_a_list_becomes_a_tenth() -> None:
    row = "<tr id='{0}'><td>person-{0}</td><td>a cell like all others, with its label and its class</td></tr>"
    text = "".join(row.format(random.randrange(10**6)) for _ in range(500))
    page = Packed.of(f"{HOLE}{text}", HOLE)

    assert len(page.filled_and_packed(TOKEN)) < len(text) / 8
    assert page.weight > len(text)
