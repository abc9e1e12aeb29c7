"""Options of a start that come in the address: `opt-NAME=value`, as JupyterHub 6 has it. Pure."""

from __future__ import annotations

from multidict import MultiMapping

from himalia_hub.errors import BadRequest

PREFIX = "opt-"
RESERVED = frozenset({"next", "display_name", "_xsrf", "redirects", "_safe_mode"})


class UnusableOptions(BadRequest):
    """The options in the address cannot be used; the message names the part."""

    status = 422
    code = "bad-options"


def options_from_query(query: MultiMapping[str]) -> dict[str, list[str]] | None:
    """Every `opt-NAME` with its values, or None when the address carries no option.

    Names without the prefix (the form before JupyterHub 6) count only when none has it. The two are not
    mixed, so that a tracking parameter somebody appends to a link never becomes an option.
    """
    prefixed = [key for key in query if key.startswith(PREFIX)]
    if PREFIX in prefixed:
        raise UnusableOptions(f"“{PREFIX}” in the address names no option", remedy="Write opt-NAME=value.")
    if prefixed:
        return {key.removeprefix(PREFIX): query.getall(key) for key in dict.fromkeys(prefixed)}
    plain = {key: query.getall(key) for key in dict.fromkeys(query) if key not in RESERVED}
    return plain or None
