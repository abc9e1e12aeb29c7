"""What a run puts below its cell, by the rules that front ends follow. Pure: no clock, no I/O.

Streams of one name that follow each other are one output; a carriage return goes back to the begin of the line and a
backspace one step; `clear_output` empties at once or with the next output; an update changes every display of its id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Output = dict[str, Any]

CONTROLS = re.compile("([\r\n\b])")
KINDS = frozenset(
    {"stream", "display_data", "execute_result", "error", "clear_output", "update_display_data"}
)
"""The iopub messages that change a cell's outputs."""


@dataclass(slots=True)
class Stream:
    """Text as a terminal of endless width would show it: only the last line can still be written over."""

    name: str
    done: list[str] = field(default_factory=list)
    line: str = ""
    at: int = 0
    size: int = 0
    """Characters of the finished lines."""

    def write(self, text: str) -> None:
        """Add what was printed. However the text is cut into pieces, the result is the same."""
        if self.at == len(self.line) and "\r" not in text and "\b" not in text:
            finished, newline, rest = text.rpartition("\n")
            if newline:
                self._finish(self.line + finished + newline)
            self.line += rest
            self.at = len(self.line)
            return
        for piece in CONTROLS.split(text):
            match piece:
                case "\n":
                    self._finish(self.line + piece)
                case "\r":
                    self.at = 0
                case "\b":
                    self.at = max(0, self.at - 1)
                case _:
                    self.line = self.line[: self.at] + piece + self.line[self.at + len(piece) :]
                    self.at += len(piece)

    def _finish(self, text: str) -> None:
        self.done.append(text)
        self.size += len(text)
        self.line, self.at = "", 0

    def back_to_place(self) -> str:
        """What must be written after the whole text so that the next letter overwrites the right one."""
        return "\r" + self.line[: self.at] if self.at < len(self.line) else ""

    def output(self) -> Output:
        """As nbformat holds it."""
        self.done = ["".join(self.done)]
        return {"output_type": "stream", "name": self.name, "text": self.done[0] + self.line}


@dataclass(slots=True)
class Display:
    """Any other output, with the id under which it may be changed later (empty: never)."""

    output: Output
    size: int
    display_id: str = ""


class Outputs:
    """The outputs of one run, at most `most` characters of them; the rest is counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: list[Stream | Display] = []
        self._closed_size = 0
        self._clear_next = False
        self.left_out = 0

    def dump(self) -> dict[str, Any]:
        """All of it as JSON; `load` is the inverse."""
        items = [
            [item.name, "".join(item.done), item.line, item.at]
            if isinstance(item, Stream)
            else [item.output, item.size, item.display_id]
            for item in self._items
        ]
        return {
            "most": self._most,
            "items": items,
            "closed_size": self._closed_size,
            "clear_next": self._clear_next,
            "left_out": self.left_out,
        }

    @classmethod
    def load(cls, told: dict[str, Any]) -> Outputs:
        """What `dump` gave."""
        outputs = cls(told["most"])
        for item in told["items"]:
            if len(item) == 4:
                name, done, line, at = item
                outputs._items.append(Stream(name, [done] if done else [], line, at, len(done)))
            else:
                outputs._items.append(Display(*item))
        outputs._closed_size, outputs._clear_next = told["closed_size"], told["clear_next"]
        outputs.left_out = told["left_out"]
        return outputs

    @property
    def size(self) -> int:
        """Characters held, in the form of JSON but for streams."""
        last = self._items[-1] if self._items else None
        return self._closed_size + (last.size + len(last.line) if isinstance(last, Stream) else 0)

    def shows(self, display_id: str) -> bool:
        """Whether an update of this display would change anything."""
        return any(isinstance(item, Display) and item.display_id == display_id for item in self._items)

    def stop(self) -> None:
        """Grow no more."""
        self._most = min(self._most, self.size)

    def take(self, kind: str, content: dict[str, Any]) -> None:
        """One iopub message of `KINDS`; what is malformed changes nothing."""
        match kind:
            case "clear_output":
                self._clear_next = content.get("wait") is True
                if not self._clear_next:
                    self._clear()
            case "update_display_data":
                self._update(display_id_of(content), content)
            case "stream":
                self._stream(content.get("name"), content.get("text"))
            case _:
                if (output := _output_of(kind, content)) is not None:
                    self._add(Display(output, len(json.dumps(output)), display_id_of(content)))

    def list(self) -> list[Output]:
        """A list of its own as a notebook holds it; the last line says what was left out."""
        outputs = [item.output() if isinstance(item, Stream) else dict(item.output) for item in self._items]
        if self.left_out:
            text = (
                f"[{self.left_out} more outputs came than are kept while no browser is there to take them]\n"
            )
            outputs.append({"output_type": "stream", "name": "stderr", "text": text})
        return outputs

    def messages(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """What a kernel would have to publish to make them: types and contents, with the ids of displays."""
        made = [(str(output.pop("output_type")), output) for output in self.list()]
        for (_, content), item in zip(made, self._items, strict=False):
            if isinstance(item, Stream):
                # Empty text makes no output; what was printed may have been controls alone.
                content["text"] = (content["text"] + item.back_to_place()) or "\r"
            elif item.display_id:
                content["transient"] = {"display_id": item.display_id}
        if self._clear_next:
            made.append(("clear_output", {"wait": True}))
        return made

    def _clear(self) -> None:
        self._items, self._closed_size, self.left_out = [], 0, 0
        self._clear_next = False

    def _stream(self, name: object, text: object) -> None:
        if not isinstance(name, str) or not isinstance(text, str) or not text:
            return
        if self._clear_next:
            self._clear()
        if self.size + len(text) > self._most:
            self.left_out += 1
            return
        last = self._items[-1] if self._items else None
        if not isinstance(last, Stream) or last.name != name:
            self._closed_size = self.size
            last = Stream(name)
            self._items.append(last)
        last.write(text)

    def _add(self, display: Display) -> None:
        if self._clear_next:
            self._clear()
        if self.size + display.size > self._most:
            self.left_out += 1
            return
        self._closed_size = self.size + display.size
        self._items.append(display)

    def _update(self, display_id: str, content: dict[str, Any]) -> None:
        update = _output_of("display_data", content)
        if not display_id or update is None:
            return
        for item in self._items:
            if isinstance(item, Display) and item.display_id == display_id:
                output = item.output | {"data": update["data"], "metadata": update["metadata"]}
                size = len(json.dumps(output))
                if self.size + size - item.size > self._most:
                    self.left_out += 1
                    continue
                self._closed_size += size - item.size
                item.output, item.size = output, size


def canonical(outputs: Iterable[Any]) -> list[Output]:
    """The same outputs in one form, however a client cuts streams or leaves out what is empty."""
    items: list[Stream | Output] = []
    for output in outputs:
        if not isinstance(output, dict):
            continue
        text = output.get("text")
        if output.get("output_type") != "stream":
            items.append({key: value for key, value in output.items() if value not in (None, {}, [])})
            continue
        last = items[-1] if items else None
        if not isinstance(last, Stream) or last.name != output.get("name"):
            last = Stream(str(output.get("name")))
            items.append(last)
        last.write("".join(map(str, text)) if isinstance(text, list) else str(text))
    return [item.output() if isinstance(item, Stream) else item for item in items]


def display_id_of(content: dict[str, Any]) -> str:
    """The id under which what a message shows can be changed later; empty when it cannot."""
    transient = content.get("transient")
    display_id = transient.get("display_id") if isinstance(transient, dict) else None
    return display_id if isinstance(display_id, str) else ""


def _output_of(kind: str, content: dict[str, Any]) -> Output | None:
    if kind == "error":
        traceback = content.get("traceback")
        return {
            "output_type": "error",
            "ename": str(content.get("ename", "")),
            "evalue": str(content.get("evalue", "")),
            "traceback": [str(line) for line in traceback] if isinstance(traceback, list) else [],
        }
    data, metadata = content.get("data"), content.get("metadata")
    if kind not in {"display_data", "execute_result"} or not isinstance(data, dict):
        return None
    output = {"output_type": kind, "data": data, "metadata": metadata if isinstance(metadata, dict) else {}}
    return (
        output | {"execution_count": content.get("execution_count")} if kind == "execute_result" else output
    )
