from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.pages.admin.query import Age, parse


def test_terms_words_and_quotes_are_read_apart() -> None:
    query = parse('ann state:running,failed owner:"Chen Wei" idle:>90m group:ml')

    assert [(term.key, term.value) for term in query.terms] == [
        ("", "ann"),
        ("state", ("ready", "failed")),
        ("owner", "chen wei"),
        ("idle", Age(more=True, than=timedelta(minutes=90))),
        ("group", "ml"),
    ]
    assert query.problems == ()


@pytest.mark.parametrize(
    ("text", "help_says"),
    [
        ("state:runing", "is no state; there are running"),
        ("stat:running", "there is no “stat:”; there are state"),
        ("owner:", "needs a value, such as owner:ann"),
        ("idle:1h", "write >1h, <30m or >2d"),
        ("idle:>1y", "write >1h"),
        ("is:king", "there are admin"),
    ],
)
def test_a_term_that_means_nothing_says_what_would(text: str, help_says: str) -> None:
    (term,) = parse(f"ann {text} bob").problems

    assert (term.written, help_says in term.problem) == (text, True)


@given(st.text(max_size=300))
def test_the_pieces_to_show_are_the_text_whatever_is_typed(text: str) -> None:
    query = parse(text)

    assert "".join(piece for piece, _ in query.parts) == text[:255]
    assert [piece for piece, wrong in query.parts if wrong] == [term.written for term in query.problems]
