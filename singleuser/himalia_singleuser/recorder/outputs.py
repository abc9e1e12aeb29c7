"""What a run puts below its cell, by the rules that front ends follow. Pure: no clock, no I/O.

Streams of one name that follow each other are one output; a carriage return goes back to the begin of the line and a
backspace one step; `clear_output` empties at once or with the next output; an update changes every display of its id.

What cannot change any more may be put on disk (`shelve`), and is read from there when the outputs are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from himalia_singleuser.recorder.shelf import Disk, Piece, Shelf
from himalia_singleuser.recorder.stream import Stream

Output = dict[str, Any]

KINDS = frozenset(
    {"stream", "display_data", "execute_result", "error", "clear_output", "update_display_data"}
)
"""The iopub messages that change a cell's outputs."""


@dataclass(slots=True)
class Display:
    """Any other output, with the id under which it may be changed later (empty: never)."""

    output: Output
    size: int
    display_id: str = ""


@dataclass(slots=True)
class Batch:
    """Outputs that follow each other and change no more, on disk as a list in JSON."""

    piece: Piece
    size: int


Item = Stream | Display | Batch
NO_TEXT = "\r"
"""Shows nothing, and yet makes an output, as what was printed did: it may have been controls alone."""


class Outputs:
    """The outputs of one run, at most `most` characters of them; the rest is counted."""

    def __init__(self, most: int, disk: Disk | None = None) -> None:
        self._most = most
        self._why_no_more = ""
        self._disk = disk
        self._shelf: Shelf | None = None
        self._shelf_path = ""
        self._items: list[Item] = []
        self._closed_size = 0
        self._shelved_size = 0
        self._clear_next = False
        self.left_out = 0

    def dump(self) -> dict[str, Any]:
        """All of it as JSON, but for what is on disk; `load` and `attach` are the inverse."""
        return {
            "most": self._most,
            "why": self._why_no_more,
            "items": [[type(item).__name__, *_fields(item)] for item in self._items],
            "closed_size": self._closed_size,
            "shelved_size": self._shelved_size,
            "shelf": self._shelf.path if self._shelf is not None else "",
            "clear_next": self._clear_next,
            "left_out": self.left_out,
        }

    @classmethod
    def load(cls, told: dict[str, Any]) -> Outputs:
        """What `dump` gave. What is on disk can be read once it was attached."""
        outputs = cls(told["most"])
        outputs._items = [ITEMS[name](*told_fields) for name, *told_fields in told["items"]]
        outputs._closed_size, outputs._clear_next = told["closed_size"], told["clear_next"]
        outputs._shelved_size, outputs._shelf_path = told["shelved_size"], told["shelf"]
        outputs._why_no_more, outputs.left_out = told["why"], told["left_out"]
        return outputs

    def attach(self, disk: Disk) -> None:
        """Go on there. What an earlier server put on disk and is gone counts as left out."""
        self._disk = disk
        if not self._shelf_path:
            return
        try:
            self._shelf = disk.open(self._shelf_path)
        except OSError:
            self._clear()
            self.left_out, self._why_no_more = 1, "the file that an earlier server put them into is gone"

    @property
    def size(self) -> int:
        """About the characters of all outputs: of streams what they show, of others what came over the wire."""
        last = self._items[-1] if self._items else None
        return self._closed_size + (last.size + len(last.line) if isinstance(last, Stream) else 0)

    @property
    def held(self) -> int:
        """Those of them that are in memory."""
        return self.size - self._shelved_size

    def shows(self, display_id: str) -> bool:
        """Whether an update of this display would change anything."""
        return any(isinstance(item, Display) and item.display_id == display_id for item in self._items)

    def displays(self) -> dict[str, list[int]]:
        """By id, where in `list` the displays are that an update would change."""
        found: dict[str, list[int]] = {}
        at = 0
        for item in self._items:
            if isinstance(item, Display) and item.display_id:
                found.setdefault(item.display_id, []).append(at)
            at += len(self._outputs_of(item)) if isinstance(item, Batch) else 1
        return found

    def stop(self, why: str = "") -> None:
        """Grow no more."""
        self._most = min(self._most, self.size)
        self._why_no_more = self._why_no_more or why

    def shelve(self) -> None:
        """Put all on disk that cannot change any more. Where that cannot be, nothing more is kept."""
        if self._disk is None:
            return
        try:
            self._shelf = self._shelf or self._disk.shelf()
            last = self._items[-1] if self._items and isinstance(self._items[-1], Stream) else None
            if last is not None:
                self._shelve_lines(last, self._shelf)
            at = 0
            for closed, group in groupby(
                list(self._items), lambda item: item is not last and _is_closed(item)
            ):
                items = list(group)
                if closed:
                    self._items[at : at + len(items)] = [self._batch(items, self._shelf)]
                at += 1 if closed else len(items)
        except OSError as error:
            self.stop(error.strerror or str(error))

    def _shelve_lines(self, stream: Stream, shelf: Shelf) -> None:
        text = "".join(stream.done)
        if text:
            stream.shelved.append(shelf.put(text))
            self._shelved_size += len(text)
            stream.done = []

    def _batch(self, items: list[Item], shelf: Shelf) -> Batch:
        outputs = [output for item in items for output in self._outputs_of(item)]
        size = sum(item.size + (len(item.line) if isinstance(item, Stream) else 0) for item in items)
        batch = Batch(shelf.put(json.dumps(outputs)), size)
        self._shelved_size += size
        return batch

    def _outputs_of(self, item: Item) -> list[Output]:
        match item:
            case Stream():
                text = "".join([*map(self._read, item.shelved), item.text()])
                return [{"output_type": "stream", "name": item.name, "text": text}]
            case Display():
                return [dict(item.output)]
            case Batch():
                return list(json.loads(self._read(item.piece)))

    def _read(self, piece: Piece) -> str:
        assert self._shelf is not None, "there are pieces on disk only after `shelve` or `attach`"
        return self._shelf.get(piece)

    def take(self, kind: str, content: dict[str, Any], size: int) -> None:
        """One iopub message of `KINDS`, its content `size` bytes on the wire; what is malformed changes nothing."""
        match kind:
            case "clear_output":
                self._clear_next = content.get("wait") is True
                if not self._clear_next:
                    self._clear()
            case "update_display_data":
                self._update(display_id_of(content), content, size)
            case "stream":
                self._stream(content.get("name"), content.get("text"))
            case _:
                if (output := _output_of(kind, content)) is not None:
                    self._add(Display(output, size, display_id_of(content)))

    def list(self) -> list[Output]:
        """A list of its own as a notebook holds it; the last line says what was left out."""
        outputs = [output for item in self._items for output in self._outputs_of(item)]
        return [*outputs, *self._note_of_gap()]

    def _note_of_gap(self) -> Iterator[Output]:
        if self.left_out:
            why = self._why_no_more
            limit = f"could be kept: {why}" if why else "are kept while no browser is there to take them"
            text = f"[{self.left_out} more outputs came than {limit}]\n"
            yield {"output_type": "stream", "name": "stderr", "text": text}

    def messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What a kernel would have to publish to make them: types and contents, with the ids of displays.

        As they are now; what is on disk is read only when it is asked for.
        """
        parts: list[Iterator[tuple[str, dict[str, Any]]]] = []
        for item in self._items:
            match item:
                case Stream():
                    parts.append(_printed(self._shelf, item.name, list(item.shelved), _rest_of(item)))
                case Display():
                    parts.append(iter([_message(item.output, item.display_id)]))
                case Batch():
                    parts.append(_unpacked(self._shelf, item.piece))
        parts.append(map(_message, list(self._note_of_gap())))
        if self._clear_next:
            parts.append(iter([("clear_output", {"wait": True})]))
        return chain.from_iterable(parts)

    def _clear(self) -> None:
        self._items, self._closed_size, self._shelved_size, self.left_out = [], 0, 0, 0
        self._clear_next = False
        self.close()
        self._shelf = None

    def close(self) -> None:
        """What is on disk is needed by nobody but who reads it already."""
        if self._shelf is not None:
            self._shelf.give_back()

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

    def _update(self, display_id: str, content: dict[str, Any], size: int) -> None:
        update = _output_of("display_data", content)
        if not display_id or update is None:
            return
        for item in self._items:
            if isinstance(item, Display) and item.display_id == display_id:
                output = item.output | {"data": update["data"], "metadata": update["metadata"]}
                if self.size + size - item.size > self._most:
                    self.left_out += 1
                    continue
                self._closed_size += size - item.size
                item.output, item.size = output, size


ITEMS: dict[str, type[Item]] = {"Stream": Stream, "Display": Display, "Batch": Batch}


def _fields(item: Item) -> Sequence[Any]:
    match item:
        case Stream():
            return item.name, ["".join(item.done)], item.line, item.at, item.size, item.shelved
        case Display():
            return item.output, item.size, item.display_id
        case Batch():
            return item.piece, item.size


def _is_closed(item: Item) -> bool:
    """Whether all of it can go to disk. Of a stream that is there in part, the rest is too little to care."""
    match item:
        case Stream():
            return not item.shelved
        case Display():
            return not item.display_id
        case Batch():
            return False


def _rest_of(stream: Stream) -> str:
    return (stream.text() + stream.back_to_place()) or ("" if stream.shelved else NO_TEXT)


def _printed(
    shelf: Shelf | None, name: str, shelved: list[Piece], rest: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for piece in shelved:
        assert shelf is not None
        yield "stream", {"name": name, "text": shelf.get(piece)}
    if rest:
        yield "stream", {"name": name, "text": rest}


def _unpacked(shelf: Shelf | None, piece: Piece) -> Iterator[tuple[str, dict[str, Any]]]:
    assert shelf is not None
    return map(_message, json.loads(shelf.get(piece)))


def _message(output: Output, display_id: str = "") -> tuple[str, dict[str, Any]]:
    content = {key: value for key, value in output.items() if key != "output_type"}
    if output["output_type"] == "stream":
        content["text"] = content["text"] or NO_TEXT
    if display_id:
        content["transient"] = {"display_id": display_id}
    return str(output["output_type"]), content


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
    return [
        {"output_type": "stream", "name": item.name, "text": item.text()}
        if isinstance(item, Stream)
        else item
        for item in items
    ]


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
