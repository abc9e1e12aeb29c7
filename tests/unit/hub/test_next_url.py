from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from himalia_hub.auth.next_url import safe_next

HUB = "http://hub.test/hub/login"
HOME = "/hub/home"
nasty = st.text(
    st.sampled_from("/\\\t\n\r @:?#%.;&=2fFhttps evil.com hub.test\u2215\uff0f\u3002\x00\x7f"), max_size=24
)


def go(wanted: str | None, base_url: str = "/", hosts: frozenset[str] = frozenset({"hub.test"})) -> str:
    return safe_next(
        wanted, own_hosts=hosts, base_url=base_url, default=HOME, never=("/hub/login", "/hub/logout")
    )


def as_a_browser_reads(location: str) -> str:
    """The host a browser would go to (WHATWG URL: trim, drop tab and line ends, backslash is a slash)."""
    text = re.sub(r"[\t\n\r]", "", location.strip("".join(map(chr, range(0x21)))))
    path, mark, rest = re.match(r"([^?#]*)([?#]?)(.*)", text, re.DOTALL).groups()
    return urlsplit(urljoin(HUB, path.replace("\\", "/") + mark + rest)).netloc


@given(st.text() | nasty | nasty.map(lambda t: "//" + t) | nasty.map(lambda t: "http://hub.test" + t))
@example("//evil.com")
@example("///evil.com")
@example("/\\evil.com")
@example("\\\\evil.com")
@example("/\t/evil.com")
@example("http://hub.test//evil.com")
@example("http://hub.test\\@evil.com")
@example("http://hub.test@evil.com/")
@example("https:evil.com")
@example("//hub.test//evil.com/")
@example("http://[::1")
@example("/ /evil")
def test_any_text_leads_to_a_path_on_this_site(wanted: str) -> None:
    """CVE-2019-10255, CVE-2019-10856: `next` led to another host, after the first mend by an empty one."""
    location = go(wanted)

    assert location.startswith("/")
    assert not location.startswith("//")
    assert location.isascii()
    assert not re.search(r"[\x00-\x20\x7f\\]", location)
    assert as_a_browser_reads(location) == "hub.test"


@given(st.text() | nasty)
def test_any_text_stays_below_the_base_url(wanted: str) -> None:
    location = safe_next(wanted, own_hosts={"hub.test"}, base_url="/base/", default="/base/hub/home")

    assert location.startswith("/base/")


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/user/ann/lab?x=1&y=%2F#cell", "/user/ann/lab?x=1&y=%2F#cell"),
        ("/user/zoë/", "/user/zo%C3%AB/"),
        ("http://hub.test/user/ann/", "/user/ann/"),
        ("//hub.test/user/ann/?a=b", "/user/ann/?a=b"),
        ("HTTP://HUB.TEST/user/ann/", "/user/ann/"),
        ("//evil", HOME), ("/\\evil", "/hub/home"), ("https:evil", HOME), ("%2f%2fevil", HOME), ("javascript:alert(1)", HOME),
        ("", HOME), (None, HOME), ("relative", HOME), ("/hub/logout", HOME), ("/hub/login?next=/x", HOME),
    ],
)  # fmt: skip
def test_what_is_ours_is_kept_and_the_rest_goes_home(wanted: str | None, location: str) -> None:
    assert go(wanted) == location
