"""The shape of the source: see also the contracts of import-linter in pyproject.toml."""

from __future__ import annotations

import graphlib
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "hub": ("himalia_hub", "himalia_migrations", "himalia_spawner"),
    "proxy": ("himalia_proxy",),
    "singleuser": ("himalia_singleuser",),
}
"""What runs in each image. Of the proxy it is what its program reaches: `client.py` is the hub's side of it."""
OPTIONAL = {"pam"}
"""Found missing in words: an image has no accounts to sign in to."""
PARTS = ("himalia_hub", "himalia_migrations", "himalia_proxy", "himalia_singleuser", "himalia_spawner")


@pytest.mark.parametrize("part", PARTS)
def test_no_modules_import_each_other_in_a_circle_not_even_for_types(part: str) -> None:
    graph = grimp.build_graph(part, cache_dir=None)
    order = graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )

    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])), pytrace=False)


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_installs_everything_that_its_program_imports(image: str) -> None:
    graph = grimp.build_graph(
        *PARTS, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    if image == "proxy":
        modules = graph.find_upstream_modules("himalia_proxy.__main__")
    else:
        modules = {name for name in graph.modules if name.partition(".")[0] in PROGRAMS[image]}
    imported = {each for name in modules for each in graph.find_modules_directly_imported_by(name)}
    others = {name for name in imported if name not in sys.stdlib_module_names and "himalia" not in name}

    lock = (ROOT / f"deploy/requirements/{image}.lock").read_text()
    locked = set(re.findall(r"(?m)^([\w.-]+)==", lock))
    known = packages_distributions()
    missing = {
        name
        for name in others - OPTIONAL
        if not locked & {re.sub(r"[-_.]+", "-", one).lower() for one in known[name]}
    }
    assert missing == set(), f"list them in deploy/requirements/{image}.in and run `make lock`"
