"""What a record of a research archive holds, from what its site's API says. Pure: documents in, files out.

The APIs: Zenodo `records`, figshare `articles`, Dataverse `datasets`, HydroShare `hsapi/resource`, CKAN `package_show`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True)
class File:
    """One file: its name, with folders, where it lies, and what its site says that changes with its content."""

    name: str
    url: str
    mark: str = ""

    @property
    def is_archive(self) -> bool:
        """By its name."""
        return self.name.lower().endswith(SUFFIXES)


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of site is asked: from a record's address to the API's, and from its answer to files."""

    api: Callable[[str], str]
    files: Callable[[Any, str], Iterator[File]]


def files_of(kind: Kind, document: Any, url: str) -> list[File]:
    """The record's files, ordered by name; none where the document is not what the API promises."""
    try:
        found = [one for one in kind.files(document, url) if isinstance(one.name, str) and one.name]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return []
    return sorted(found, key=lambda one: one.name)


def _zenodo_api(url: str) -> str:
    site, _, number = url.rpartition("/records/")
    return f"{site}/api/records/{number}"


def _zenodo(document: Any, url: str) -> Iterator[File]:
    for one in document["files"]:
        yield File(one["key"], urljoin(url, one["links"]["self"]), str(one.get("checksum", "")))


def _figshare(document: Any, url: str) -> Iterator[File]:
    for one in document["files"]:
        if not one.get("is_link_only"):
            yield File(one["name"], urljoin(url, one["download_url"]), str(one.get("computed_md5", "")))


def _dataverse_api(url: str) -> str:
    site, _, query = url.rpartition("/dataset.xhtml?")
    return f"{site}/api/datasets/:persistentId/?{query}"


def _dataverse(document: Any, url: str) -> Iterator[File]:
    site = url.rpartition("/dataset.xhtml?")[0]
    for one in document["data"]["latestVersion"]["files"]:
        folder, data = one.get("directoryLabel"), one["dataFile"]
        name = f"{folder}/{one['label']}" if folder else one["label"]
        yield File(name, f"{site}/api/access/datafile/{int(data['id'])}", str(data.get("md5", "")))


def _hydroshare_api(url: str) -> str:
    site, _, number = url.rpartition("/resource/")
    return f"{site}/hsapi/resource/{number}/files/"


def _hydroshare(document: Any, url: str) -> Iterator[File]:
    for one in document["results"]:
        there = urljoin(url, one["url"])
        yield File(unquote(there.partition("/data/contents/")[2]), there, str(one.get("checksum", "")))


def _ckan_api(url: str) -> str:
    site, _, name = url.rstrip("/").rpartition("/dataset/")
    return f"{site}/api/3/action/package_show?id={name}"


def _ckan(document: Any, url: str) -> Iterator[File]:
    for one in document["result"]["resources"]:
        there = urljoin(url, one["url"])
        name = unquote(urlsplit(there).path.rpartition("/")[2])
        yield File(name, there, str(one.get("last_modified") or ""))


KINDS: Mapping[str, Kind] = {
    "zenodo": Kind(_zenodo_api, _zenodo),
    "figshare": Kind(str, _figshare),
    "dataverse": Kind(_dataverse_api, _dataverse),
    "hydroshare": Kind(_hydroshare_api, _hydroshare),
    "ckan": Kind(_ckan_api, _ckan),
}
"""By provider of a link."""
