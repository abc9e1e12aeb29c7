"""What the JupyterLab page asks for: assets, settings, layouts, themes, languages."""

from __future__ import annotations

import gzip
import json
import re
import signal
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest

THEMES = "lab/api/settings/@jupyterlab/apputils-extension:themes"


async def page_config(server: Any, path: str = "lab") -> dict[str, Any]:
    _, body, _ = await server.ask("GET", path)
    found = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', body.decode(), re.DOTALL)
    assert found
    return json.loads(found[1])


async def test_the_page_names_its_places(start: Any) -> None:
    server = await start(base="/x/")
    config = await page_config(server)

    assert config["baseUrl"] == "/x/"
    assert config["fullStaticUrl"] == "/x/static/lab"
    assert config["fullSettingsUrl"] == "/x/lab/api/settings"
    assert (config["appVersion"], config["token"], config["workspace"]) == ("4.6.6", "", "default")
    assert config["serverRoot"] == str(server.root)
    names = [extension["name"] for extension in config["federated_extensions"]]
    assert "jupyterlab_pygments" in names


async def test_what_a_page_load_asks_again_is_compressed_or_kept(server: Any) -> None:
    for path in ("lab", "lab/api/settings/@jupyterlab/docmanager-extension:plugin", "lab/api/workspaces"):
        _, _, headers = await server.ask("GET", path, headers={"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] == "gzip", path
    style = "lab/api/themes/@jupyterlab/theme-light-extension/index.css"
    _, _, headers = await server.bare("GET", style)
    assert (await server.bare("GET", style, headers={"If-None-Match": headers["ETag"]}))[0] == 304
    config = await page_config(server)
    (pygments,) = [one for one in config["federated_extensions"] if one["name"] == "jupyterlab_pygments"]
    for file, kept in ((pygments["load"], True), ("package.json", False)):
        _, _, headers = await server.bare("GET", f"lab/extensions/jupyterlab_pygments/{file}")
        assert ("immutable" in headers["Cache-Control"]) == kept, file


@pytest.mark.parametrize("path", ["lab", "tree"])
async def test_our_own_extension_is_loaded_by_every_front_end(server: Any, path: str) -> None:
    config = await page_config(server, path)
    (ours,) = [one for one in config["federated_extensions"] if one["name"] == "himalia-outputs"]
    assert config["himaliaOutputs"] is True
    for file in (ours["load"], "static/extension.js", "static/run.js"):
        status, _, headers = await server.bare("GET", f"lab/extensions/{ours['name']}/{file}")
        assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8"), file


async def test_paths_below_lab_choose_workspace_mode_and_file(server: Any) -> None:
    config = await page_config(server, "lab/workspaces/w1/tree/a/b.txt")
    assert (config["workspace"], config["treePath"], config["mode"]) == ("w1", "a/b.txt", "multiple-document")
    assert (await page_config(server, "doc/tree/a.ipynb"))["mode"] == "single-document"
    assert (await page_config(server, "lab/nonsense"))["notFoundUrl"] == "/lab/nonsense"


async def test_assets_are_public_compressed_and_immutable(server: Any) -> None:
    page = (await server.ask("GET", "lab"))[1].decode()
    main = re.search(r'/(static/lab/main\.[^"]+)', page)
    assert main
    plain = await server.bare("GET", main[1], headers={"Accept-Encoding": "identity"})
    async with server.http.get(server.url(main[1]), auto_decompress=False) as packed:
        raw = await packed.read()
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.headers["Vary"] == "Accept-Encoding"

    assert plain[2]["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plain[2]["Content-Type"] == "text/javascript; charset=utf-8"
    assert gzip.decompress(raw) == plain[1]
    since = {"If-Modified-Since": plain[2]["Last-Modified"]}
    assert (await server.bare("GET", main[1], headers=since))[0] == 304


@pytest.mark.parametrize(
    "path", ["static/lab/../schemas", "static/lab/%2e%2e/x", "static/lab/none.js", "static/lab/"]
)
async def test_assets_outside_their_folder_are_not_found(server: Any, path: str) -> None:
    assert (await server.bare("GET", path))[0] in {302, 404}


async def test_icons_are_there(server: Any) -> None:
    for path in (
        "favicon.ico",
        "static/favicons/favicon.ico",
        "static/favicons/favicon-busy-1.ico",
        "static/logo/logo.png",
    ):
        assert (await server.bare("GET", path))[0] == 200


async def test_a_changed_setting_is_kept_checked_and_shown(server: Any) -> None:
    raw = '{\n  // dark, please\n  "theme": "JupyterLab Dark",\n}'
    assert (await server.ask("PUT", THEMES, json={"raw": raw}))[0] == 204

    _, entry, _ = await server.ask("GET", THEMES)

    assert (entry["raw"], entry["settings"], entry["version"]) == (raw, {"theme": "JupyterLab Dark"}, "4.6.6")
    for bad in ({"raw": '{"theme": 1}'}, {"raw": "{,}"}, {"raw": 1}, {}):
        assert (await server.ask("PUT", THEMES, json=bad))[0] == 400
    assert (await server.ask("GET", THEMES))[1]["raw"] == raw
    assert (await server.ask("GET", "lab/api/settings/@jupyterlab/apputils-extension"))[0] == 404
    assert (await server.ask("GET", "lab/api/settings/@jupyterlab/none:plugin"))[0] == 404
    assert (await server.ask("GET", "lab/api/settings/../../x:y"))[0] == 404


async def test_all_settings_are_listed_from_z_to_a(server: Any) -> None:
    _, full, _ = await server.ask("GET", "lab/api/settings")
    _, short, _ = await server.ask("GET", "lab/api/settings?ids_only=true")

    ids = [entry["id"] for entry in full["settings"]]
    assert ids == sorted(ids, reverse=True) == [entry["id"] for entry in short["settings"]]
    assert "@jupyterlab/notebook-extension:tracker" in ids
    assert all({"schema", "version", "raw", "settings"} <= entry.keys() for entry in full["settings"])


async def test_the_settings_are_those_of_the_official_server(server: Any) -> None:
    from jupyterlab_server.settings_utils import get_settings

    config = await page_config(server)
    wanted, _ = get_settings(
        config["appSettingsDir"],
        config["schemasDir"],
        config["userSettingsDir"],
        overrides={},
        labextensions_path=config["labextensionsPath"],
    )
    _, ours, _ = await server.ask("GET", "lab/api/settings")

    ours = {entry["id"]: entry for entry in ours["settings"]}
    for entry in wanted["settings"]:
        if not entry["id"].endswith(":notification"):
            assert ours[entry["id"]]["schema"] == entry["schema"], entry["id"]
            assert ours[entry["id"]]["version"] == entry["version"]
    assert len(ours) == len(wanted["settings"])


async def test_layouts_are_kept_in_the_official_files(server: Any) -> None:
    from jupyterlab_server.workspaces_handler import slugify

    for name in ("default", "My Räume", "auto-X/y"):
        path = f"lab/api/workspaces/{quote(name)}"
        body = {"data": {"a": 1}, "metadata": {"id": name}}
        assert (await server.ask("GET", path))[1] == {"data": {}, "metadata": {"id": "/" + name}}
        assert (await server.ask("PUT", path, json=body))[0] == 204
        kept = server.home / ".jupyter/lab/workspaces" / f"{slugify(name)}.jupyterlab-workspace"
        assert json.loads(kept.read_text()) == body
        assert (await server.ask("GET", path))[1]["data"] == {"a": 1}
    listed = (await server.ask("GET", "lab/api/workspaces"))[1]["workspaces"]
    assert sorted(listed["ids"]) == ["My Räume", "auto-X/y", "default"]
    wrong = {"data": {}, "metadata": {"id": "other"}}
    assert (await server.ask("PUT", "lab/api/workspaces/default", json=wrong))[0] == 400
    assert (await server.ask("PUT", "lab/api/workspaces/default", data=b"{"))[0] == 400
    assert (await server.ask("DELETE", "lab/api/workspaces/default"))[0] == 204
    assert (await server.ask("DELETE", "lab/api/workspaces/default"))[0] == 404


async def test_a_theme_points_at_its_own_pictures(server: Any) -> None:
    status, body, headers = await server.bare(
        "GET", "lab/api/themes/@jupyterlab/theme-light-extension/index.css"
    )
    assert (status, headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    local = re.findall(rb"url\(['\"]?(?!data:|/|#)[^)]*", body)
    assert not [url for url in local if not url.startswith(b"url(http")]
    assert (await server.bare("GET", "lab/api/themes/none/index.css"))[0] == 404


SMALL = {
    "lab/api/translations": {
        "data": {"en": {"displayName": "English", "nativeName": "English"}},
        "message": "",
    },
    "lab/api/build": {"status": "stable", "message": ""},
    "lab/api/plugins": {"lockRules": [], "allLocked": False},
    "lab/api/update": {"notification": None},
    "lab/api/news": {"news": []},
    "lab/api/extensions": [],
    "api/config/none": {},
}


@pytest.mark.parametrize("path", SMALL)
async def test_small_questions_have_the_expected_answers(server: Any, path: str) -> None:
    assert (await server.ask("GET", path))[:2] == (200, SMALL[path])


async def test_a_build_is_done_at_once_and_none_is_under_way(server: Any) -> None:
    assert (await server.ask("POST", "lab/api/build"))[:2] == (200, {})
    assert (await server.ask("DELETE", "lab/api/build"))[0] == 204


async def test_licences_come_in_three_forms(server: Any) -> None:
    _, found, _ = await server.ask("GET", "lab/api/licenses/")
    assert any(bundle["packages"] for bundle in found["bundles"].values())
    assert (await server.ask("GET", "lab/api/licenses/?format=csv"))[1].startswith(b"bundle,name")
    assert (await server.ask("GET", "lab/api/licenses/?format=markdown"))[1].startswith(b"# ")
    assert (await server.ask("GET", "lab/api/licenses/?format=poem"))[0] == 400
    assert (await server.ask("GET", "lab/api/licenses/?bundles=("))[0] == 400


async def test_configuration_sections_are_merged(server: Any) -> None:
    assert (await server.ask("PUT", "api/config/abc", json={"a": {"b": 1, "c": 2}}))[0] == 204
    status, body, _ = await server.ask("PATCH", "api/config/abc", json={"a": {"b": None}, "d": 3})
    assert (status, body) == (200, {"a": {"c": 2}, "d": 3})
    assert (await server.ask("GET", "api/config/abc"))[1] == body


async def test_a_notebook_is_converted_in_a_process_of_its_own(server: Any) -> None:
    _, made, _ = await server.ask("POST", "api/contents", json={"type": "notebook"})
    path = f"nbconvert/markdown/{made['path']}?download=true"

    status, _, headers = await server.ask("GET", path)

    assert (status, headers["Content-Disposition"]) == (200, "attachment; filename*=utf-8''Untitled.md")
    _, now, _ = await server.ask("GET", f"api/contents/{made['path']}?content=0")
    saved = datetime.fromisoformat(now["last_modified"])
    assert timedelta(0) <= parsedate_to_datetime(headers["Last-Modified"]) - saved < timedelta(seconds=1)
    assert (await server.ask("GET", f"nbconvert/poem/{made['path']}"))[0] == 404
    assert "html" in (await server.ask("GET", "api/nbconvert"))[1]


async def test_a_conversion_that_cannot_be_says_whose_fault_it_is(start: Any) -> None:
    server = await start(environ={"PATH": "/nonexistent"})
    _, made, _ = await server.ask("POST", "api/contents", json={"type": "notebook"})
    unfit = {
        "content": {"nbformat": 4, "nbformat_minor": 5, "cells": [{"cell_type": "code"}]},
        "name": "x.ipynb",
    }

    without_tex = await server.ask("GET", f"nbconvert/pdf/{made['path']}")
    refused = await server.ask("POST", "nbconvert/html", json=unfit)

    assert (without_tex[0], "xelatex not found" in without_tex[1]["message"]) == (501, True)
    assert (refused[0], "cell 0: 'id' is None" in refused[1]["message"]) == (400, True)
    garbage = {"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {"language_info": 1}}
    broken = await server.ask("POST", "nbconvert/html", json={"content": garbage, "name": "x.ipynb"})
    named = await server.ask("POST", "nbconvert/html", json={"content": garbage, "name": "\ud800"})
    assert (broken[0], "nbconvert to html failed: " in broken[1]["message"]) == (400, True)
    assert (named[0], "name is " in named[1]["message"]) == (400, True)


async def test_metrics_count_what_runs_and_are_not_public(server: Any) -> None:
    await server.ask("POST", "api/terminals", json={})

    status, body, headers = await server.ask("GET", "metrics")

    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = body.decode().splitlines()
    assert "terminal_currently_running_total 1" in lines
    assert "kernel_currently_running_total 0" in lines
    assert "# TYPE himalia_singleuser_cpu_seconds_total counter" in lines
    assert (await server.bare("GET", "metrics"))[:2] == (403, {"message": "Forbidden", "reason": None})


async def test_paths_of_tracebacks_are_found(server: Any) -> None:
    (server.root / "d").mkdir()
    (server.root / "d/m.py").write_text("x")

    async def resolved(path: str) -> list[dict[str, str]]:
        return (await server.ask("GET", f"api/resolvePath?path={path}"))[1]["resolved"]

    assert await resolved(f"{server.root}/d/m.py") == [{"scope": "server", "path": "d/m.py"}]
    assert await resolved("d/m.py") == [{"scope": "server", "path": "d/m.py"}]
    assert await resolved("/etc/passwd") == []
    assert (await server.ask("GET", "api/resolvePath"))[0] == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_ends_the_server_quickly_and_cleanly(server: Any, number: int) -> None:
    assert await server.stop(number) == 0
    assert '"server.stopped"' in server.log.read_text()


async def test_shutdown_by_request_ends_the_server(server: Any) -> None:
    assert (await server.ask("POST", "api/shutdown"))[0] == 200
    assert await server.process.wait() == 0
