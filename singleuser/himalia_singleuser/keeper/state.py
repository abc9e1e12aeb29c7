"""Kernels and their open requests as JSON, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from himalia_singleuser.kernels.connection import Connection
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.messages import Message, parse_object
from himalia_singleuser.kernels.requests import Request
from himalia_singleuser.kernels.specs import KernelSpec


def text(parts: Any) -> list[str]:
    """Parts of a message that are JSON, as text; any bytes come back as they were."""
    return [bytes(part).decode("utf-8", "surrogateescape") for part in parts]


def raw(parts: Any) -> list[bytes]:
    """The inverse of `text`."""
    return [part.encode("utf-8", "surrogateescape") for part in parts]


def dump_kernel(kernel: Kernel, *, born: int, mark: str) -> dict[str, Any]:
    """One kernel; `mark` is that of the last message it published and this server has dealt with."""
    spec = kernel.spec
    return {
        "id": kernel.id,
        "spec": {**asdict(spec), "folder": str(spec.folder)},
        "cwd": str(kernel.cwd),
        "env": dict(kernel.env),
        "connection": {**asdict(kernel.connection), "key": kernel.connection.key.decode()},
        "pid": kernel.pid or 0,
        "born": born,
        "mark": mark,
        "state": kernel.state.value,
        "reason": kernel.reason,
        "sessions": kernel.relay.session_ids,
        "requests": [dump_request(request) for request in kernel.relay.requests.all()],
    }


def load_spec(told: Mapping[str, Any]) -> KernelSpec:
    """As it was when the kernel was started, whatever is installed now."""
    return KernelSpec(**{**told, "folder": Path(told["folder"]), "argv": tuple(told["argv"])})


def load_connection(told: Mapping[str, Any]) -> Connection:
    """Addresses and key."""
    return Connection(**{**told, "key": told["key"].encode()})


def dump_request(request: Request) -> dict[str, Any]:
    """One cell that runs or waits."""
    question = request.question
    return {
        "parts": text([request.header_part]),
        "metadata": request.metadata,
        "content": request.content,
        "asker": request.asker,
        "holder": request.holder,
        "started": request.started,
        "failed": request.failed,
        "count": request.count,
        "question": None if question is None else text(question.parts[:4]),
    }


def load_request(told: Mapping[str, Any]) -> Request:
    """The request, open still."""
    header_part = raw(told["parts"])[0]
    request = Request(
        parse_object(header_part) or {},
        header_part,
        told["metadata"],
        told["content"],
        asker=told["asker"],
        holder=told["holder"],
        started=told["started"],
        failed=told["failed"],
        count=told["count"],
    )
    if told["question"] is not None:
        parts = raw(told["question"])
        request.question = Message("stdin", parts, parse_object(parts[0]) or {})
    return request
