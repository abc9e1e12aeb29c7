from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.pages.admin.query import Age, Amount, parse


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


def test_amounts_are_read_as_limits_are_written_and_a_share_of_a_cpu_in_percent_too() -> None:
    terms = parse("mem:>2G mem:<0.5g cpu:>50% cpu:<0.25").terms

    assert [term.value for term in terms] == [
        Amount(more=True, than=2 * 2**30),
        Amount(more=False, than=2**29),
        Amount(more=True, than=0.5),
        Amount(more=False, than=0.25),
    ]


@pytest.mark.parametrize(
    ("text", "help_says"),
    [
        ("state:runing", "is no state; there are running"),
        ("stat:running", "there is no “stat:”; there are state"),
        ("owner:", "needs a value, such as owner:ann"),
        ("idle:1h", "write >1h, <30m or >2d"),
        ("idle:>1y", "write >1h"),
        ("is:king", "there are admin"),
        ("mem:>lots", "write >2G"),
        ("mem:2G", "write >2G"),
        ("cpu:>-1", "write >0.5 or >50%"),
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
