"""Libraries are imported without docstrings and annotations, and do what they did before."""

from __future__ import annotations

import json
import subprocess
import sys
from types import CodeType, ModuleType

from himalia_hub.bare import LEFT_OUT, without_docstrings

SOURCE = '''"""Of the module."""
def told(a: int = 1):
    """Of the function."""
    def within():
        """Of the one within."""
        raise ValueError(a)
    return within
def silent(): return "Of the function."
def says_it():
    "kept"
    return "kept"
def needs_it():
    """Of the function."""
    assert needs_it.__doc__
    return [text + "!" for text in ("a", "b")]
class Told:
    """Of the class."""
    x = 1
    def method(self):
        """Of the method."""
        return self.x
class Silent:
    x = "Of the class."
same = lambda: "kept"
many = {text for text in ["kept"]}
'''
PROGRAM = """
import json, sys
if sys.argv[1] == "bare":
    from himalia_hub import bare
    bare.import_bare()
import aiohttp, pydantic, sqlalchemy
from aiohttp import web
from sqlalchemy.orm import Session
from himalia_hub import openapi
from himalia_hub.app import all_routes
from himalia_hub.settings import HubSettings
print(json.dumps([
    aiohttp.ClientSession.get.__doc__, Session.execute.__doc__, pydantic.BaseModel.model_dump.__doc__,
    len(Session.commit.__annotations__), openapi.get_document.__doc__, HubSettings.__doc__,
    HubSettings.model_json_schema(),
    openapi.document(((each.method, each.path, each.handler) for each in all_routes("/hub/", "/")), "/hub/"),
]))
"""


def executed(code: CodeType) -> ModuleType:
    module = ModuleType("m")
    exec(code, vars(module))
    return module


def test_docstrings_are_left_out_and_nothing_else_is() -> None:
    code = compile(SOURCE, "m.py", "exec")
    full, bare = executed(code), executed(without_docstrings(code))

    told = (bare, bare.told, bare.told(), bare.needs_it, bare.Told, bare.Told.method)
    assert [each.__doc__ for each in told] == [LEFT_OUT] * 6
    silent = (bare.silent, bare.Silent, bare.same)
    assert [each.__doc__ for each in silent] == [None] * 3
    for module in (full, bare):
        assert (module.silent(), module.says_it(), module.same()) == ("Of the function.", "kept", "kept")
        assert (module.needs_it(), module.Silent.x, module.many) == (["a!", "b!"], "Of the class.", {"kept"})
        assert module.Told().method() == module.told.__defaults__[0] == 1
        assert list(module.told.__code__.co_positions()) == list(full.told.__code__.co_positions())


def test_code_without_docstrings_stays_the_object_that_it_was() -> None:
    code = compile("def f():\n    return [lambda: 'x']", "m.py", "exec")

    assert without_docstrings(code) is code


def test_a_hub_imports_bare_libraries_and_describes_its_api_and_settings_as_before() -> None:
    said = [
        json.loads(subprocess.check_output([sys.executable, "-I", "-c", PROGRAM, how], text=True, timeout=60))
        for how in ("bare", "full")
    ]

    (get, execute, dump, annotations, *ours), (_, _, _, annotations_before, *ours_before) = said
    assert {get, execute, dump} <= {LEFT_OUT, None}
    assert (annotations, annotations_before) == (0, 1)
    assert ours == ours_before
