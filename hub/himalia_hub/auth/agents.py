"""Which browser a User-Agent header names, for people who look for the sign-in they don't know."""

from __future__ import annotations

import re

from himalia_hub.languages import gettext

# The order decides: Chromium names Safari too, and everybody names Mozilla.
BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Chromium", "Chromium"),
    ("Safari", "Safari"),
)
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def browser_of(user_agent: str) -> str:
    """`Firefox on Linux`; the first word of what names no browser; "Unknown browser" for nothing."""
    name = next((name for mark, name in BROWSERS if f"{mark}/" in user_agent), "")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    if not name:
        word = re.match(r"[\w.+-]{1,40}", user_agent)
        name = word[0] if word else gettext("Unknown browser")
    return gettext("%(browser)s on %(system)s") % {"browser": name, "system": system} if system else name
