"""The licences of everything the page loads, from the reports that builds leave beside their files."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from himalia_singleuser.errors import BadRequest
from himalia_singleuser.frontend.places import Lab, read_json

REPORT = "third-party-licenses.json"
COLUMNS = ("name", "versionInfo", "licenseId", "extractedText")


def bundles(lab: Lab, pattern: str) -> dict[str, Any]:
    """Bundle name to its packages; BadRequest for a pattern that is no regular expression."""
    try:
        matches = re.compile(pattern or ".*").match
    except re.error as error:
        raise BadRequest(f"bundles={pattern!r} is not a regular expression: {error}") from None
    folders = {name: folder for name, (folder, _) in lab.federated().items()}
    folders[str(read_json(lab.static / "package.json").get("name", "@jupyterlab/application-top"))] = (
        lab.static
    )
    return {name: {"packages": _packages(folder)} for name, folder in folders.items() if matches(name)}


def _packages(folder: Path) -> list[Any]:
    found: list[Any] = []
    for file in (folder / REPORT, folder / "static" / REPORT):
        packages = read_json(file).get("packages")
        if isinstance(packages, list):
            found += packages
    return found


def report(found: dict[str, Any], form: str, *, full_text: bool) -> tuple[str, str]:
    """Text and MIME type."""
    match form:
        case "json":
            return json.dumps({"bundles": found}, indent=2, sort_keys=True), "application/json"
        case "csv":
            return _csv(found), "text/csv"
        case "markdown":
            return _markdown(found, full_text=full_text), "text/markdown"
    raise BadRequest(f"format={form!r}: json, csv and markdown are offered")


def _csv(found: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["bundle", *COLUMNS])
    writer.writeheader()
    for bundle, content in found.items():
        for package in content["packages"]:
            writer.writerow({"bundle": bundle, **{column: package.get(column, "") for column in COLUMNS}})
    return out.getvalue()


def _markdown(found: dict[str, Any], *, full_text: bool) -> str:
    lines = []
    for bundle, content in found.items():
        lines += [f"# {bundle}", ""]
        for package in content["packages"]:
            lines.append("## " + " ".join(str(package.get(column, "UNKNOWN")) for column in COLUMNS[:3]))
            if full_text:
                lines += ["", "```", str(package.get("extractedText", "")), "```", ""]
    return "\n".join(lines) + "\n"
