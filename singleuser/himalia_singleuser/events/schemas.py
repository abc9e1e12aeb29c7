"""The event schemas this server knows, as plain checks. Pure.

jsonschema would say the same and costs a tenth of a second at import; these events have flat fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from himalia_singleuser.errors import BadRequest

_BASE = "https://events.jupyter.org/jupyter_server"
CONTENTS = f"{_BASE}/contents_service/v1"
KERNEL_ACTIONS = f"{_BASE}/kernel_actions/v1"
GATEWAY = f"{_BASE}/gateway_client/v1"


@dataclass(frozen=True, slots=True)
class EventSchema:
    """One kind of event. `choices` limits a field to some words, `kinds` to some types."""

    id: str
    version: str = "1"
    required: frozenset[str] = frozenset()
    choices: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kinds: Mapping[str, tuple[type, ...]] = field(default_factory=dict)

    def check(self, data: Mapping[str, Any]) -> None:
        """BadRequest names the first field that is missing or wrong."""
        for name in sorted(self.required):
            if name not in data:
                raise BadRequest(f"Event {self.id} needs the field {name}")
        for name, words in self.choices.items():
            if name in data and data[name] not in list(words):
                raise BadRequest(
                    f"Event field {name} must be one of {', '.join(sorted(words))}, not {data[name]!r}"
                )
        for name, types in self.kinds.items():
            if name in data and not isinstance(data[name], types):
                raise BadRequest(f"Event field {name} has the wrong type: {type(data[name]).__name__}")


_TEXT = (str,)
_STATUS = frozenset({"success", "error"})

KNOWN: dict[str, EventSchema] = {
    schema.id: schema
    for schema in (
        EventSchema(
            CONTENTS,
            required=frozenset({"action", "path"}),
            choices={"action": frozenset({"get", "create", "save", "upload", "rename", "copy", "delete"})},
            kinds={"path": _TEXT, "source_path": _TEXT},
        ),
        EventSchema(
            KERNEL_ACTIONS,
            required=frozenset({"action"}),
            choices={
                "action": frozenset({"start", "interrupt", "shutdown", "restart"}),
                "status": _STATUS,
            },
            kinds={"kernel_id": _TEXT, "kernel_name": _TEXT, "status_code": (int,), "msg": _TEXT},
        ),
        EventSchema(
            GATEWAY,
            required=frozenset({"status"}),
            choices={"status": _STATUS},
            kinds={"status_code": (int,), "msg": _TEXT, "gateway_url": _TEXT},
        ),
    )
}
