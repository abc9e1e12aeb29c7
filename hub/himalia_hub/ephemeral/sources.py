"""From the path of a link to the repository it means. Pure.

The paths are BinderHub's (`/v2/<provider>/<spec>`). A spec is read as it was sent, percent signs and all: a
GitLab namespace or the address of a git repository holds slashes that must not be taken for separators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from himalia_hub.errors import BadRequest

LONGEST_SPEC = 2000
LONGEST_REF = 250
DEFAULT_REF = "HEAD"
RENAMED = ("master", "main")
"""Links of READMEs name a default branch that was called so once: where it is gone, the default one is meant."""
PACKED = ("archive", "zenodo", "figshare", "dataverse", "hydroshare", "ckan")
"""Providers of archives and of records. What stands for a commit there is the content, so the only other ref is one."""

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_GIST = re.compile(r"[0-9a-f]{20,40}")
_SSH = re.compile(
    r"(?:git\+)?ssh://(?:[^@/]*@)?([A-Za-z0-9.-]+)(?::\d+)?/(.+)|[\w.-]+@([A-Za-z0-9.-]+):(?!//)(.+)"
)
_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Source:
    """A repository at a ref. `spec` is as in the link; `url` is what git is given."""

    provider: str
    spec: str
    url: str
    ref: str
    label: str
    """What people call it: `ann/notebooks`, or the address."""
    stem: str
    """The spec without its ref, as it was sent."""

    @property
    def commit(self) -> str | None:
        """The commit, where the ref is one already."""
        return self.ref if _SHA.fullmatch(self.ref) else None

    @property
    def packed(self) -> bool:
        """Whether it is an archive, not a repository of git's."""
        return self.provider in PACKED

    @property
    def slug(self) -> str:
        """A short name for accounts and folders: `a-z`, `0-9` and dashes, at most 24."""
        name = self.label.lower().rpartition("/")[2]
        return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:24].strip("-") or "session"

    def at(self, commit: str) -> str:
        """The spec that means this commit for ever."""
        return f"{self.stem}/{commit}"


@dataclass(frozen=True, slots=True)
class Provider:
    """One way to name repositories. `host` is where its repositories lie; empty where the spec says it."""

    prefix: str
    name: str
    host: str
    example: str
    """A spec, for the page that makes links."""
    parts: int
    """How many parts of the spec, between slashes, name the repository; the rest is the ref."""
    read: Callable[[str, list[str]], tuple[str, str]]
    """(host, decoded parts) → (address for git, label). BadRequest says what is wrong with them."""


def _github(host: str, parts: list[str]) -> tuple[str, str]:
    owner, name = parts[0], parts[1].removesuffix(".git")
    if not _OWNER.fullmatch(owner) or not _NAME.fullmatch(name) or not name.strip("."):
        raise BadRequest(
            f"{'/'.join(parts)[:100]!r} is no repository's name", remedy="write OWNER/REPOSITORY/REF"
        )
    return f"{host}/{owner}/{name}.git", f"{owner}/{name}"


def _gist(host: str, parts: list[str]) -> tuple[str, str]:
    owner, gist = parts
    if not _OWNER.fullmatch(owner) or not _GIST.fullmatch(gist):
        raise BadRequest(
            f"{'/'.join(parts)[:100]!r} is no gist", remedy="write OWNER/GIST, its id in hexadecimal"
        )
    return f"{host}/{gist}.git", f"{owner}/{gist[:8]}"


def _gitlab(host: str, parts: list[str]) -> tuple[str, str]:
    path = parts[0].strip("/").removesuffix(".git")
    names = path.split("/")
    if len(names) < 2 or not all(_NAME.fullmatch(name) and name.strip(".") for name in names):
        raise BadRequest(
            f"{path[:100]!r} is no project's path", remedy="write GROUP%2FPROJECT/REF, the slash as %2F"
        )
    return f"{host}/{path}.git", path


def _git(_host: str, parts: list[str]) -> tuple[str, str]:
    if there := over_https(parts[0]):
        raise BadRequest(
            f"{parts[0][:100]!r} is an address of SSH, for which this hub has no key",
            remedy=f"write {there[:100]}, percent-encoded, if the repository is public",
        )
    return _address(parts[0], ("http", "https", "git"))


def over_https(url: str) -> str:
    """Where a public repository with this address of SSH (`ssh://…`, `git@host:path`) lies; empty for all others."""
    found = _SSH.fullmatch(url)
    return f"https://{found[1] or found[3]}/{(found[2] or found[4]).lstrip('/')}" if found else ""


def _archive(_host: str, parts: list[str]) -> tuple[str, str]:
    return _address(parts[0], ("http", "https"), query=True)


def _zenodo(host: str, parts: list[str]) -> tuple[str, str]:
    number = _in_doi(parts, r"zenodo\.(\d{1,12})", "Zenodo", "10.5281/zenodo.3242074")[1]
    return f"{host}/records/{number}", "/".join(parts)


def _figshare(host: str, parts: list[str]) -> tuple[str, str]:
    shape = r"(?:[\w-]+\.)?figshare\.(\d{1,12})(?:\.v(\d{1,4}))?"
    found = _in_doi(parts, shape, "figshare", "10.6084/m9.figshare.9782777.v1")
    version = f"/versions/{found[2]}" if found[2] else ""
    return f"{host}/v2/articles/{found[1]}{version}", "/".join(parts)


def _dataverse(host: str, parts: list[str]) -> tuple[str, str]:
    _in_doi(parts, r"[A-Za-z0-9]{1,20}/[A-Za-z0-9]{1,20}", "Dataverse", "10.7910/DVN/TJCLKP")
    doi = "/".join(parts)
    return f"{host}/dataset.xhtml?persistentId=doi:{doi}", doi


def _hydroshare(host: str, parts: list[str]) -> tuple[str, str]:
    example = "10.4211/hs.b8f6eae9d89241cf8b5904033460af61"
    number = _in_doi(parts, r"hs\.([0-9a-f]{32})", "HydroShare", example)[1]
    return f"{host}/resource/{number}", "/".join(parts)


def _in_doi(parts: list[str], shape: str, name: str, example: str) -> re.Match[str]:
    doi = "/".join(parts)
    found = re.fullmatch(rf"10\.\d{{4,9}}/{shape}", doi)
    if found is None:
        raise BadRequest(f"{doi[:100]!r} is no DOI of {name}", remedy=f"such as {example}")
    return found


def _ckan(_host: str, parts: list[str]) -> tuple[str, str]:
    url, label = _address(parts[0].rstrip("/"), ("http", "https"))
    if not re.fullmatch(r"https?://[^/]+(?:/[\w.-]+)*/dataset/[\w.-]+", url):
        raise BadRequest(
            f"{url[:100]!r} is no dataset's address", remedy="such as https://ckan.example.org/dataset/NAME"
        )
    return url, label


def _address(url: str, schemes: Collection[str], *, query: bool = False) -> tuple[str, str]:
    there = urlsplit(url)
    if there.scheme not in schemes or not there.hostname:
        raise BadRequest(
            f"{url[:100]!r} is not an address that can be fetched",
            remedy=f"write the whole address, {' or '.join(f'{one}://…' for one in schemes)}, percent-encoded",
        )
    if there.username or there.password:
        raise BadRequest(
            "the address holds a name or a password", remedy="leave it out: anybody can read a link"
        )
    if (
        (there.query and not query)
        or there.fragment
        or not url.isprintable()
        or not url.isascii()
        or " " in url
    ):
        raise BadRequest(
            f"{url[:100]!r} is no repository's address", remedy="percent-encode it, without ? or #"
        )
    return url, url.partition("://")[2].rstrip("/").removesuffix(".git")


PROVIDERS: Mapping[str, Provider] = {
    one.prefix: one
    for one in (
        Provider("gh", "GitHub", "https://github.com", "owner/repository/HEAD", 2, _github),
        Provider("gist", "Gist", "https://gist.github.com", "owner/0123456789abcdef0123", 2, _gist),
        Provider("gl", "GitLab", "https://gitlab.com", "group%2Fproject/HEAD", 1, _gitlab),
        Provider("git", "Git repository", "", "https%3A%2F%2Fexample.org%2Fproject.git/HEAD", 1, _git),
        Provider("archive", "Zip or tar archive", "", "https%3A%2F%2Fexample.org%2Fcourse.zip", 1, _archive),
        Provider("zenodo", "Zenodo", "https://zenodo.org", "10.5281/zenodo.3242074", 2, _zenodo),
        Provider(
            "figshare", "figshare", "https://api.figshare.com", "10.6084/m9.figshare.9782777.v1", 2, _figshare
        ),
        Provider(
            "dataverse", "Dataverse", "https://dataverse.harvard.edu", "10.7910/DVN/TJCLKP", 3, _dataverse
        ),
        Provider(
            "hydroshare",
            "HydroShare",
            "https://www.hydroshare.org",
            "10.4211/hs.b8f6eae9d89241cf8b5904033460af61",
            2,
            _hydroshare,
        ),
        Provider("ckan", "CKAN", "", "https%3A%2F%2Fckan.example.org%2Fdataset%2Fname", 1, _ckan),
    )
}


def read(provider: str, spec: str, hosts: Mapping[str, str]) -> Source:
    """The repository that `/v2/<provider>/<spec>` means; `spec` undecoded. BadRequest says what is wrong.

    `hosts` replaces the address of a provider, such as `{"gl": "https://gitlab.example.org"}`.
    """
    known = PROVIDERS.get(provider)
    if known is None:
        raise BadRequest(f"there is no provider {provider[:32]!r}", remedy=f"one of {', '.join(PROVIDERS)}")
    spec = spec.strip("/")
    parts = spec.split("/", known.parts)
    if len(spec) > LONGEST_SPEC or len(parts) < known.parts or not all(parts):
        raise BadRequest(f"{spec[:100]!r} names no repository", remedy=f"such as {provider}/{known.example}")
    if known.read in (_git, _archive, _ckan) and re.match("[a-z]+:/", spec):
        raise BadRequest(
            f"the address in {spec[:100]!r} is not percent-encoded",
            remedy="write its : as %3A and its / as %2F",
        )
    stem, ref = parts[: known.parts], unquote("".join(parts[known.parts :])) or DEFAULT_REF
    host = hosts.get(provider, known.host).rstrip("/")
    url, label = known.read(host, [unquote(part) for part in stem])
    if provider in PACKED and ref != DEFAULT_REF and not _SHA.fullmatch(ref):
        raise BadRequest(f"an archive has no branch or tag {ref[:100]!r}", remedy="leave the last part out")
    return Source(provider, spec, url, _checked_ref(ref), label, "/".join(stem))


def told_url(provider: str, url: str) -> str:
    """The repository's address as BinderHub tells it: GitHub's without git's suffix, every other as git is given it."""
    return url.removesuffix(".git") if provider == "gh" else url


def page_of(provider: str, url: str, stem: str, commit: str) -> str:
    """Where people see the files of this commit: the provider's own page of it, else the repository's address."""
    address = url.removesuffix(".git")
    if provider in ("gh", "gl"):
        return f"{address}/tree/{commit}"
    if provider == "gist":
        return f"{address.rpartition('/')[0]}/{stem}/{commit}"
    return url


def _checked_ref(ref: str) -> str:
    """A ref that git can take for nothing else: no option, no revision syntax (`git check-ref-format`)."""
    forbidden = ("..", "@{", "//", "\\", "~", "^", ":", "?", "*", "[", " ")
    odd = any(part in ref for part in forbidden) or not ref.isprintable()
    if odd or ref[0] in "-/." or ref.endswith(("/", ".", ".lock")) or len(ref) > LONGEST_REF:
        raise BadRequest(f"{ref[:100]!r} is not a branch, tag or commit", remedy="such as HEAD, main or v1.0")
    return ref


def opening(query: Mapping[str, str]) -> str:
    """The path below its server that a session opens on, query included; empty: the server's own choice.

    `labpath` before `filepath` before `urlpath`, as BinderHub reads them. BadRequest for an address elsewhere.
    """
    if lab := query.get("labpath", "").strip("/"):
        return f"lab/tree/{quote(lab)}"
    if file := query.get("filepath", "").strip("/"):
        return f"tree/{quote(file)}"
    path = query.get("urlpath", "").lstrip("/\\")
    if "://" in path.partition("?")[0] or not path.isprintable() or len(path) > LONGEST_SPEC:
        raise BadRequest(
            f"urlpath={path[:100]!r} is no path on a server", remedy="such as lab/tree/index.ipynb"
        )
    return path
