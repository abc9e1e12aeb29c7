"""What a research archive says of a record is read as files, or as none: no answer of a site breaks the hub."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.ephemeral.records import KINDS, files_of

URL = "https://archive.example.org/records/7"
WORDS = ("files", "key", "links", "self", "name", "download_url", "data", "latestVersion", "label", "dataFile",
         "id", "results", "url", "result", "resources", "directoryLabel", "checksum", "md5")  # fmt: skip
plain = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("http://[half")
answers = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("provider", KINDS)
@given(answer=answers)
def test_any_answer_is_files_with_names_in_order_or_none(provider: str, answer: Any) -> None:
    names = [one.name for one in files_of(KINDS[provider], answer, URL)]

    assert all(isinstance(name, str) and name for name in names)
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("provider", "answer"),
    [
        ("zenodo", {"files": [{"key": 7, "links": {"self": "/a"}}]}),
        ("zenodo", {"files": [{"key": "a", "links": {"self": "http://[half"}}]}),
        ("dataverse", {"data": {"latestVersion": {"files": [{"label": "a", "dataFile": {"id": "seven"}}]}}}),
        ("ckan", {"result": None}),
        ("hydroshare", []),
    ],
)
def test_an_answer_that_is_not_what_the_api_promises_has_no_files(provider: str, answer: Any) -> None:
    assert files_of(KINDS[provider], answer, URL) == []
