"""Libraries without what only people and tools read of them: docstrings, annotations, overloads (decision 50)."""

from __future__ import annotations

import sys
import typing
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from opcode import opmap
from types import CodeType, FunctionType, ModuleType

SERVING = frozenset({"up", "hub"})
"""Verbs of the command line whose process stays: it is worth while to keep it small."""
LIBRARIES = frozenset(
    {
        *("aiohttp", "aiosignal", "aiosqlite", "annotated_types", "argon2", "attr", "frozenlist", "idna"),
        *("jinja2", "markupsafe", "multidict", "prometheus_client", "propcache", "pydantic", "pydantic_core"),
        *("sqlalchemy", "structlog", "typing_extensions", "typing_inspection", "uvloop", "yarl"),
    }
)
"""Packages that are known to read nothing of this after their import. Our own handlers' docstrings are the text of the
API's description, and what a plug-in reads of itself is not known: neither is touched.
"""
DOCSTRINGS = LIBRARIES | sys.stdlib_module_names
LEFT_OUT = "Left out."
"""In the place of each docstring: libraries assert that they have one, and look for words in it."""
CO_OPTIMIZED = 1
LOAD, STORE = opmap["LOAD_CONST"], opmap["STORE_NAME"]
LOADS_FIRST = [bytes((opmap[name], 0)) for name in ("LOAD_CONST", "RETURN_CONST") if name in opmap]
_forgotten: set[str] = set()


class BareLoader(SourceFileLoader):
    """Takes docstrings out of what was read from the interpreter's own cache, so there is no second cache to keep."""

    def get_code(self, fullname: str) -> CodeType | None:
        """As its base, with the docstrings of LIBRARIES left out."""
        code = super().get_code(fullname)
        return code if code is None or not _is_any(fullname, DOCSTRINGS) else without_docstrings(code)

    def exec_module(self, module: ModuleType) -> None:
        """As its base. Once a package of LIBRARIES is whole, what it read of itself goes."""
        super().exec_module(module)
        if hasattr(module, "__path__") and _is_any(module.__name__, LIBRARIES):
            forget(module.__name__)


def import_bare() -> None:
    """From here on, LIBRARIES are imported without docstrings, annotations of functions and overloads."""
    kinds = (
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (BareLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    sys.path_hooks.insert(0, FileFinder.path_hook(*kinds))
    sys.path_importer_cache.clear()


def without_docstrings(code: CodeType) -> CodeType:
    """The code of a module, class or function, and of all within; the same object if it has no docstring."""
    consts: list[object] | None = None
    for index, const in enumerate(code.co_consts):
        if type(const) is CodeType and (bare := without_docstrings(const)) is not const:
            consts = consts or list(code.co_consts)
            consts[index] = bare
    if (at := _docstring(code)) is not None:
        consts = consts or list(code.co_consts)
        consts[at] = LEFT_OUT
    return code if consts is None else code.replace(co_consts=tuple(consts))


def _docstring(code: CodeType) -> int | None:
    """Where among the constants the docstring stands, unless anything else uses that constant too.

    A function's is the first, and no instruction loads it. Modules and classes load theirs to store it.
    """
    if code.co_flags & CO_OPTIMIZED:
        if not code.co_consts or type(code.co_consts[0]) is not str:
            return None
        return None if any(load in code.co_code for load in LOADS_FIRST) else 0
    if "__doc__" not in code.co_names or (name := code.co_names.index("__doc__")) > 255:
        return None
    raw = code.co_code
    stored = raw.find(bytes((STORE, name)))
    if stored < 2 or stored % 2 or raw[stored - 2] != LOAD:
        return None
    at = raw[stored - 1]
    return at if type(code.co_consts[at]) is str and raw.count(bytes((LOAD, at))) == 1 else None


def forget(package: str) -> None:
    """What a package needed while it was imported: annotations of functions, the fields of dicts, overloads."""
    typing.clear_overloads()
    within = {name for name in sys.modules if name == package or name.startswith(package + ".")}
    for name in within - _forgotten:
        _forgotten.add(name)
        module = sys.modules[name]
        for each in list(vars(module).values()) if module is not None else ():
            if isinstance(each, type) and each.__module__ == name:
                if "__required_keys__" in vars(each):  # a TypedDict
                    each.__annotations__ = {}
                for member in list(vars(each).values()):
                    _forget_of(member, within)
            else:
                _forget_of(each, within)


def _forget_of(each: object, within: set[str]) -> None:
    match each:
        case classmethod() | staticmethod():
            each = each.__func__
        case property():
            each = each.fget
    if type(each) is FunctionType and each.__module__ in within:
        del each.__annotations__
        if each.__doc__ and len(each.__doc__) > len(LEFT_OUT):
            each.__doc__ = None  # put together from several


def _is_any(module: str, packages: frozenset[str]) -> bool:
    return module.partition(".")[0] in packages
