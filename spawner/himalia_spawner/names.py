"""Deterministic names for what a spawner makes: pure, injective, safe as a DNS label and as a file name."""

from __future__ import annotations

import base64
import hashlib
import re

NAME_MAX = 60  # a DNS label holds 63; what is left is for a backend's own suffix
_USER_MAX = 20
_SERVER_MAX = 12
_HASH_CHARS = 24  # base32: 120 bits
_PLAIN_HOME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


def backend_name(username: str, server_name: str = "") -> str:
    """The one name of this user's server: `[a-z][a-z0-9-]*`, at most NAME_MAX characters.

    The hash is always there: were it left out for "safe" names, a hostile user could be called like another
    one's hashed name. The readable words before it are for people who read `ps` and folder listings.
    """
    words = [_word(username, _USER_MAX) or "user", _word(server_name, _SERVER_MAX)]
    if not words[0][0].isalpha():
        words[0] = f"u{words[0]}"
    return "-".join([*filter(None, words), _digest(username, server_name)])


def home_name(username: str) -> str:
    """The user's folder under `homes_dir`: the name itself where it is plain, else readable part and hash.

    A plain name holds no `--`, a hashed one always does, so the two kinds never meet.
    """
    if _PLAIN_HOME.fullmatch(username) and "--" not in username:
        return username
    return f"{_word(username, _USER_MAX) or 'user'}--{_digest(username)}"


def short_name(name: str) -> str:
    """Sixteen hexadecimal digits that stand for `name` where every byte of a path counts."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def _word(text: str, longest: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].rstrip("-")


def _digest(*parts: str) -> str:
    # Each part goes in with its length: joined bare, ("ab", "c") and ("a", "bc") would be one.
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass")
        whole.update(b"%d:" % len(data) + data)
    return base64.b32encode(whole.digest()).decode().lower()[:_HASH_CHARS]
