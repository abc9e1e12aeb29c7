"""What setup.py and setup.cfg say a project needs, without running them. Pure: texts in, requirements out."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping

FIELD = "install_requires"


class NotPlain(ValueError):
    """What is needed can only be known by running the file."""


def requirements(setup_py: str, setup_cfg: str) -> list[str]:
    """The packages that the project wants, as it lists them: in the call of `setup`, else in setup.cfg.

    A list may stand in the call, or under a name at the top of the file. ValueError for a file that is no Python, or no
    configuration; NotPlain for anything that only running it could tell.
    """
    module = _parsed(setup_py)
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and _is_setup(node.func)]
    if not calls:
        raise NotPlain
    named = {keyword.arg: keyword.value for call in calls for keyword in call.keywords}
    if FIELD in named:
        return _texts(named[FIELD], _lists_of(module))
    if None in named:  # **something
        raise NotPlain
    return _of_configuration(setup_cfg)


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is no Python: {type(error).__name__}") from None


def _is_setup(function: ast.expr) -> bool:
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    return name == "setup"


def _lists_of(module: ast.Module) -> dict[str, ast.expr]:
    """Values of names that the top of the file sets, and that are used once: what else happens to them is not known."""
    seen = Counter(node.id for node in ast.walk(module) if isinstance(node, ast.Name))
    return {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and seen[target.id] == 2
    }


def _texts(value: ast.expr, lists: Mapping[str, ast.expr]) -> list[str]:
    if isinstance(value, ast.Name):
        value = lists.get(value.id, value)
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError):
        raise NotPlain from None
    if isinstance(found, str):
        found = found.splitlines()
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise NotPlain
    return [one.strip() for one in found if one.strip()]


def _of_configuration(text: str) -> list[str]:
    import configparser  # by few, and here only

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(f"setup.cfg cannot be read: {type(error).__name__}") from None
    listed = parser.get("options", FIELD, fallback="")
    if "file:" in listed or "attr:" in listed:
        raise NotPlain
    lines = listed.replace(";\n", "\n").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
