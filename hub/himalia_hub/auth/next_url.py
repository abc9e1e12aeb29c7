"""Where to go after signing in: whatever is asked for, never off this site. Pure."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote, urlsplit

PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def safe_next(
    wanted: str | None,
    *,
    own_hosts: Collection[str],
    base_url: str,
    default: str,
    never: Collection[str] = (),
) -> str:
    """A path on this site, below `base_url`: the wanted one when it is, else `default`.

    Browsers drop tabs and line ends inside URLs, trim blanks, and read a backslash as a slash; each of these
    has turned a harmless-looking text into another host before, so they are refused or quoted first.
    `never` are paths that make no sense as a destination (signing in or out).
    """
    if not wanted or wanted.startswith("/\\") or any(c <= "\x20" or c == "\x7f" for c in wanted):
        return default
    text = quote(wanted, safe=PRINTABLE_ASCII, errors="replace").replace("\\", "%5C")
    if not text.startswith("/") or text.startswith("//"):
        text = _path_of_own_url(text, own_hosts)
    if not text.startswith(base_url) or text.startswith("//"):
        return default
    return default if urlsplit(text).path.rstrip("/") in never else text


def _path_of_own_url(text: str, own_hosts: Collection[str]) -> str:
    """Path, query and fragment of an absolute URL to ourselves; empty for any other."""
    try:
        parts = urlsplit("//" + text.lstrip("/") if text.startswith("/") else text)
    except ValueError:
        return ""
    if parts.scheme not in ("", "http", "https") or parts.netloc.lower() not in own_hosts:
        return ""
    return parts._replace(scheme="", netloc="", path="/" + parts.path.lstrip("/")).geturl()
