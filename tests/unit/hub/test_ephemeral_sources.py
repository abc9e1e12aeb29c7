"""Links are read as they were sent; what they mean cannot be made to mean anything else."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.ephemeral import session
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.make_link import Asked
from himalia_hub.ephemeral.models import Launch
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.sources import PROVIDERS, Source, opening, page_of, read
from himalia_hub.errors import BadRequest
from himalia_hub.rbac import roles
from himalia_hub.settings import HubSettings

SHA = "0123456789abcdef0123456789abcdef01234567"
PIECES = ["ann", "notes", "/", "-", "--upload-pack=x", "ext::sh", "file%3A%2F%2F", "https%3A%2F%2Fexample.org", "%2F", "%0A", "%20", "..", ":", "@", "HEAD", SHA]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "spec", "url", "ref"),
    [
        ("gh", "ann/notes/main", "https://github.com/ann/notes.git", "main"),
        ("gh", "ann/notes.git/main", "https://github.com/ann/notes.git", "main"),
        ("gh", "ann/notes", "https://github.com/ann/notes.git", "HEAD"),
        ("gh", "ann/notes/feature/new", "https://github.com/ann/notes.git", "feature/new"),
        ("gh", "ann/notes/feature%2Fnew", "https://github.com/ann/notes.git", "feature/new"),
        ("gist", f"ann/{SHA[:20]}", f"https://gist.github.com/{SHA[:20]}.git", "HEAD"),
        ("gl", "lab%2Fgroup%2Fnotes/v1.0", "https://gitlab.com/lab/group/notes.git", "v1.0"),
        ("git", "https%3A%2F%2Fexample.org%2Fa.git/HEAD", "https://example.org/a.git", "HEAD"),
        ("git", f"git%3A%2F%2Fexample.org%3A99%2Fa/{SHA}", "git://example.org:99/a", SHA),
        ("archive", "https%3A%2F%2Fexample.org%2Fa.zip%3Fv%3D1", "https://example.org/a.zip?v=1", "HEAD"),
        ("archive", f"https%3A%2F%2Fexample.org%2Fa.tgz/{SHA}", "https://example.org/a.tgz", SHA),
        ("zenodo", "10.5281/zenodo.3242074", "https://zenodo.org/records/3242074", "HEAD"),
        (
            "figshare",
            "10.6084/m9.figshare.97.v3",
            "https://api.figshare.com/v2/articles/97/versions/3",
            "HEAD",
        ),
        ("figshare", f"10.25412/iop.figshare.97/{SHA}", "https://api.figshare.com/v2/articles/97", SHA),
        (
            "dataverse",
            "10.7910/DVN/TJCLKP",
            "https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP",
            "HEAD",
        ),
        ("hydroshare", f"10.4211/hs.{SHA[:32]}", f"https://www.hydroshare.org/resource/{SHA[:32]}", "HEAD"),
        (
            "ckan",
            "https%3A%2F%2Fckan.example.org%2Fdataset%2Fnotes",
            "https://ckan.example.org/dataset/notes",
            "HEAD",
        ),
    ],
)
def test_a_link_names_a_repository_and_a_ref(provider: str, spec: str, url: str, ref: str) -> None:
    source = read(provider, spec, {})
    assert (source.url, source.ref, source.spec) == (url, ref, spec)
    assert source.commit == (SHA if ref == SHA else None)


@pytest.mark.parametrize(
    ("provider", "spec"),
    [
        ("svn", "a/b/c"),
        ("gh", "ann"),
        ("gh", "/"),
        ("gh", "ann/../main"),
        ("gh", "-x/notes/main"),
        ("gh", "ann/notes/--upload-pack=x"),
        ("gh", "ann/notes/..%2F..%2Fetc"),
        ("gh", "ann/notes/a b"),
        ("gh", "ann/notes/a%0Ab"),
        ("gh", "ann/notes/main%5E%7Bcommit%7D"),
        ("gl", "notes/main"),
        ("gl", "lab%2F..%2Fnotes/main"),
        ("git", "file%3A%2F%2F%2Fetc/HEAD"),
        ("git", "ext%3A%3Ash%20-c%20id/HEAD"),
        ("git", "ssh%3A%2F%2Fexample.org%2Fa/HEAD"),
        ("git", "--upload-pack%3Dx/HEAD"),
        ("git", "https%3A%2F%2Fann%3Apw%40example.org%2Fa/HEAD"),
        ("git", "https%3A%2F%2Fexample.org%2Fa%3Fq/HEAD"),
        ("gist", "ann/nothex"),
        ("archive", "git%3A%2F%2Fexample.org%2Fa.zip"),
        ("archive", "file%3A%2F%2F%2Fetc%2Fpasswd"),
        ("archive", "https%3A%2F%2Fexample.org%2Fa.zip/main"),
        ("archive", "https%3A%2F%2Fann%3Apw%40example.org%2Fa.zip"),
        ("zenodo", "10.5281/figshare.3242074"),
        ("zenodo", "10.5281/zenodo.1%2F..%2F2"),
        ("figshare", "10.6084/m9.figshare.x"),
        ("dataverse", "10.7910/DVN/T%26key=x"),
        ("hydroshare", "10.4211/hs.1"),
        ("ckan", "https%3A%2F%2Fckan.example.org%2Fa%2F..%2Fdataset%2Fx%2Fy"),
    ],
)
def test_what_is_no_repository_is_refused_with_a_remedy(provider: str, spec: str) -> None:
    """CVE-2021-39159: a repository that git took for an option."""
    with pytest.raises(BadRequest) as caught:
        read(provider, spec, {})
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("address", "instead"),
    [
        ("git@example.org:ann/notes.git", "https://example.org/ann/notes.git,"),
        ("ssh://git@example.org:2222/ann/notes", "https://example.org/ann/notes,"),
        ("git+ssh://example.org/notes", "https://example.org/notes,"),
    ],
)
def test_an_address_of_ssh_is_refused_with_the_one_to_use_instead(address: str, instead: str) -> None:
    with pytest.raises(BadRequest, match="no key") as caught:
        read("git", f"{quote(address, safe='')}/HEAD", {})
    assert instead in caught.value.remedy


@given(
    provider=st.sampled_from(list(PROVIDERS)),
    spec=st.text() | st.lists(st.sampled_from(PIECES)).map("".join),
)
def test_no_text_becomes_an_option_or_another_transport_of_git(provider: str, spec: str) -> None:
    try:
        source = read(provider, spec, {})
    except BadRequest:
        return
    assert source.url.startswith(("https://", "http://", "git://"))
    assert not source.ref.startswith("-")
    for told in (source.url, source.ref):
        assert told.isprintable()
        assert " " not in told


def test_a_site_may_have_its_own_host_for_a_provider() -> None:
    assert (
        read("gl", "a%2Fb/HEAD", {"gl": "https://git.example.org/"}).url == "https://git.example.org/a/b.git"
    )


def test_a_spec_can_be_tied_to_a_commit_for_ever() -> None:
    assert read("gl", "a%2Fb/HEAD", {}).at(SHA) == f"a%2Fb/{SHA}"
    assert read("gh", "ann/notes/feature/new", {}).at(SHA) == f"ann/notes/{SHA}"


@pytest.mark.parametrize(
    ("label", "slug"),
    [("Ann/My_Notes", "my-notes"), ("example.org/x/é", "session"), ("a/" + "x" * 80, "x" * 24)],
)
def test_a_session_is_called_after_its_repository(label: str, slug: str) -> None:
    assert Source("git", "", "", "HEAD", label, "").slug == slug


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({}, ""),
        ({"urlpath": "/lab/tree/a b.ipynb"}, "lab/tree/a b.ipynb"),
        ({"urlpath": "doc?x=1", "labpath": "a/b c.ipynb"}, "lab/tree/a/b%20c.ipynb"),
        ({"filepath": "x.ipynb", "urlpath": "lab"}, "tree/x.ipynb"),
        ({"urlpath": "//evil.example"}, "evil.example"),
        ({"urlpath": "lab?next=https://x"}, "lab?next=https://x"),
    ],
)
def test_what_a_session_opens_on_is_read_as_binderhub_reads_it(query: dict[str, str], path: str) -> None:
    assert opening(query) == path


@pytest.mark.parametrize("path", ["https://evil.example", "a\nb"])
def test_a_session_never_opens_on_another_site(path: str) -> None:
    with pytest.raises(BadRequest, match="no path on a server"):
        opening({"urlpath": path})


def test_a_ban_is_asked_before_a_permission() -> None:
    section = EphemeralSection(allowed=["^gh/ann/"], banned=["/bad-"])
    assert section.admits("gh", "ann/notes/main")
    assert section.admits("gh", "ANN/notes/main")
    assert not section.admits("gh", "ann/bad-notes/main")
    assert not section.admits("gh", "bob/notes/main")
    assert EphemeralSection().admits("git", "anything")


def test_a_bad_expression_is_named() -> None:
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        EphemeralSection(banned=["("])


@pytest.mark.parametrize(
    ("provider", "spec", "page"),
    [
        ("gh", "ann/notes/HEAD", "https://github.com/ann/notes/tree/{}"),
        ("gl", "lab%2Fgroup%2Fnotes/main", "https://gitlab.com/lab/group/notes/tree/{}"),
        ("gist", "ann/0123456789abcdef0123", "https://gist.github.com/ann/0123456789abcdef0123/{}"),
        ("git", "https%3A%2F%2Fexample.org%2Fa.git/HEAD", "https://example.org/a.git"),
        ("zenodo", "10.5281/zenodo.12", "https://zenodo.org/records/12"),
    ],
)
def test_a_session_is_told_where_people_see_its_files(provider: str, spec: str, page: str) -> None:
    source, commit = read(provider, spec, {}), "c" * 40
    assert page_of(provider, source.url, source.stem, commit) == page.format(commit)


@pytest.mark.parametrize(
    ("visitor", "settings", "address"),
    [
        ("net:203.0.113.9", {"tell_client_address": True}, "203.0.113.9"),
        ("net:2001:db8::/64", {"tell_client_address": True}, "2001:db8::/64"),
        ("user:7", {"tell_client_address": True}, None),
        ("pool:", {"tell_client_address": True}, None),
        ("net:203.0.113.9", {}, None),
    ],
)
def test_a_session_knows_its_link_and_only_where_a_site_says_so_its_visitors_address(
    visitor: str, settings: dict[str, object], address: str | None
) -> None:
    told = HubSettings.model_validate({"public_url": "https://hub.example.org", "ephemeral": settings})
    unsaid = HubSettings.model_validate({"base_url": "/deep/", "proxy": {"port": 9000}})
    source = read("gh", "ann/notes/v1", {})
    launch = Launch(
        key="k", visitor=visitor, provider="gh", spec=source.spec, stem=source.stem, url=source.url, commit="c" * 40,
        environment="e", home="",
    )  # fmt: skip
    env = session.furnishing(told, Folders(Path("/x")), launch).environment
    without = session.furnishing(unsaid, Folders(Path("/x")), launch).environment
    assert without["BINDER_LAUNCH_HOST"] == "http://127.0.0.1:9000/deep/"
    launch.site = "http://hub.lan:8000"
    opened = session.furnishing(unsaid, Folders(Path("/x")), launch).environment
    assert opened["BINDER_LAUNCH_HOST"] == "http://hub.lan:8000/deep/"
    assert session.furnishing(told, Folders(Path("/x")), launch).environment == env
    assert {name: value for name, value in env.items() if name.startswith("BINDER_")} == {
        "BINDER_LAUNCH_HOST": "https://hub.example.org/",
        "BINDER_REPO_URL": "https://github.com/ann/notes",
        "BINDER_REF_URL": f"https://github.com/ann/notes/tree/{'c' * 40}",
        "BINDER_REQUEST": "v2/gh/ann/notes/v1",
        "BINDER_PERSISTENT_REQUEST": f"v2/gh/ann/notes/{'c' * 40}",
    } | ({"BINDER_CLIENT_IP": address} if address else {})


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("203.0.113.9", "a mining club"), ("203.0.114.9", None), ("198.51.100.7", ""),
        ("2001:db8:1::/64", "a /128 of it"), ("2001:db8:2::/64", None), ("127.0.0.1", None),
    ],
)  # fmt: skip
def test_a_banned_network_is_known_by_any_address_of_it(address: str, why: str | None) -> None:
    bans = {"203.0.113.0/24": "a mining club", "198.51.100.7": "", "2001:db8:1::5": "a /128 of it"}
    assert EphemeralSection(ban_networks=bans).banned_network(address) == why
    with pytest.raises(ValueError, match="'here'"):
        EphemeralSection(ban_networks={"here": ""})


@pytest.mark.parametrize(
    ("asked", "spec"),
    [
        (Asked("gh", "ann/notes"), "ann/notes/HEAD"),
        (Asked("gh", "https://github.com/ann/notes.git", "v1"), "ann/notes/v1"),
        (Asked("gl", "lab/group/notes", "main"), "lab%2Fgroup%2Fnotes/main"),
        (Asked("gl", "https://gitlab.com/lab/notes/"), "lab%2Fnotes/HEAD"),
        (Asked("gh", "git@github.com:ann/notes.git"), "ann/notes/HEAD"),
        (Asked("git", "https://example.org/a.git"), "https%3A%2F%2Fexample.org%2Fa.git/HEAD"),
    ],
)
def test_what_people_type_becomes_a_spec_that_is_read_back(asked: Asked, spec: str) -> None:
    assert asked.spec == spec
    assert read(asked.provider, asked.spec, {}).stem == spec.rpartition("/")[0]


def test_the_server_of_a_session_may_report_that_it_is_used() -> None:
    assert set(roles.SERVER) & {"users:activity!user"} <= set(roles.GUEST), (
        "a server has no more than its owner"
    )


def test_the_first_rule_that_fits_a_repository_counts_and_the_rest_is_the_sections() -> None:
    section = EphemeralSection.model_validate(
        {
            "repository_limit": 3,
            "repositories": [
                {"match": "^gh/uni/", "limit": 0, "mem_limit": "4G"},
                {"match": "^gh/", "limit": 9},
            ],
        }
    )
    found = [
        section.rule(*name.split("/", 1)) for name in ("gh/Uni/course/HEAD", "gh/ann/x/HEAD", "git/a/HEAD")
    ]
    assert [(one.limit, one.mem_limit, one.cpu_limit) for one in found] == [
        (0, "4G", 2),
        (9, "2G", 2),
        (3, "2G", 2),
    ]
    with pytest.raises(ValueError, match="no regular expression"):
        EphemeralSection.model_validate({"repositories": [{"match": "("}]})
