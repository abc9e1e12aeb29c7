"""The shape of the source: see also the contracts of import-linter in pyproject.toml."""

from __future__ import annotations

import graphlib

import grimp
import pytest

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
