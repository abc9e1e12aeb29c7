"""The pure parts: routes and their marks, signatures, paths, settings, notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_singleuser.app import FEATURES, all_routes
from himalia_singleuser.auth.signing import Signer
from himalia_singleuser.auth_marks import access_of
from himalia_singleuser.contents import notebooks
from himalia_singleuser.contents.paths import Root, is_below
from himalia_singleuser.contents.shape import complaint
from himalia_singleuser.environ import SettingsError
from himalia_singleuser.errors import ApiError
from himalia_singleuser.frontend.workspaces import slug
from himalia_singleuser.hub import HubUser
from himalia_singleuser.settings import normal_base_url, parse

PUBLIC = {
    "/api",
    "/login",
    "/logout",
    "/oauth_callback",
    "/robots.txt",
    "/favicon.ico",
    "/static/lab/{path:.+}",
    "/static/notebook/{path:.+}",
    "/static/{kind:favicons|logo|style}/{path:.+}",
    "/lab/extensions/{path:.+}",
    "/lab/api/themes/{path:.+}",
}
HUB = {
    "JUPYTERHUB_API_TOKEN": "t",
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
    "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada",
}


def test_every_route_says_who_may_use_it_and_only_the_known_ones_are_public() -> None:
    marks = {(route.method, route.path): access_of(route.handler) for route in all_routes()}

    assert None not in marks.values()
    assert {path for (_, path), mark in marks.items() if mark == "public"} == PUBLIC


def test_no_two_features_claim_the_same_route() -> None:
    routes = [(route.method, route.path) for feature in FEATURES for route in feature.routes]
    assert len(routes) == len(set(routes))


def test_nothing_heavy_is_imported_at_start() -> None:
    heavy = "nbformat jsonschema jinja2 pydantic nbconvert jupyter_server jupyterlab_server tornado sqlalchemy json5"
    program = (
        "import sys, himalia_singleuser.serve; "
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(value=st.text(), name=st.text(min_size=1))
def test_a_signed_value_comes_back_for_its_own_purpose_only(value: str, name: str) -> None:
    try:
        value.encode()
        name.encode()
    except UnicodeEncodeError:
        return
    signer = Signer(b"key")
    signed = signer.sign(name, value, now=1000)

    assert signer.read(name, signed, max_age_s=10, now=1005) == value
    assert signer.read(name + "x", signed, max_age_s=10, now=1005) is None
    assert signer.read(name, signed, max_age_s=10, now=1011) is None
    assert Signer(b"other").read(name, signed, max_age_s=10, now=1005) is None


def test_a_clock_that_is_put_back_by_an_hour_signs_nobody_out() -> None:
    signer = Signer(b"key")
    signed = signer.sign("login", "ann", now=1_000_000)

    assert signer.read("login", signed, max_age_s=10, now=1_000_000 - 3600) == "ann"
    assert signer.read("login", signed, max_age_s=10, now=1_000_000 - 2 * 86400) is None


@given(text=st.text())
def test_a_forged_value_is_none_not_an_error(text: str) -> None:
    assert Signer(b"key").read("a", text, max_age_s=10) is None


@given(path=st.text())
def test_a_located_path_is_below_the_root_or_refused(path: str) -> None:
    root = Root(Path("/nonexistent/root"))
    try:
        file = root.locate(root.clean(path))
    except ApiError:
        return
    assert is_below(str(file), "/nonexistent/root")


def test_a_sibling_with_the_same_beginning_is_not_below() -> None:
    assert not is_below("/a/rootless", "/a/root")
    assert is_below("/a", "/")


@pytest.mark.parametrize(
    ("scopes", "enters"),
    [
        (["access:servers!server=ada/"], True),
        (["access:servers!user=ada"], True),
        (["access:servers"], True),
        (["access:servers!user=adam", "access:servers!server=adam/", "read:users"], False),
        (["access:services"], False),
        ([], False),
    ],
)
def test_an_access_scope_is_held_by_itself_or_within_a_wider_one(scopes: list[str], enters: bool) -> None:
    assert HubUser("x", frozenset(scopes)).may_enter(("access:servers!server=ada/",)) is enters


def test_without_required_scopes_nobody_enters() -> None:
    assert not HubUser("ada", frozenset({"access:servers"})).may_enter(())


@pytest.mark.parametrize(
    ("given_url", "normal"),
    [("", "/"), ("/", "/"), ("a/b", "/a/b/"), ("//a//b/", "/a/b/"), ("/a%40b", "/a@b/")],
)
def test_a_base_url_begins_and_ends_with_one_slash(given_url: str, normal: str) -> None:
    assert normal_base_url(given_url) == normal


def test_the_hubs_environment_is_understood(tmp_path: Path) -> None:
    service = {"JUPYTERHUB_SERVICE_URL": "http+unix://%2Frun%2Fa.sock/user/ada/"}
    settings = parse(["--root", str(tmp_path)], HUB | service | {"HIMALIA_LOCK_FD": "7"})

    assert (settings.socket, settings.base_url, settings.lock_fd) == ("/run/a.sock", "/user/ada/", 7)
    assert settings.token == ""
    assert settings.hub
    assert settings.hub.prefix == "/hub/"
    assert "'t'" not in repr(settings)
    tcp = parse(["--root", str(tmp_path)], HUB | {"JUPYTERHUB_SERVICE_URL": "http://127.0.0.2:99/user/ada/"})
    assert (tcp.ip, tcp.port, tcp.socket) == ("127.0.0.2", 99, "")


def test_a_hub_at_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    at = "http+unix://%2Frun%2Fhub.sock/hub/api"
    told = {"JUPYTERHUB_API_URL": at, "JUPYTERHUB_ACTIVITY_URL": f"{at}/users/ada/activity"}

    hub = parse(["--root", str(tmp_path)], HUB | told).hub

    assert hub
    assert hub.api_socket == "/run/hub.sock"
    assert (hub.api_url, hub.activity_url) == ("http://hub/hub/api", "http://hub/hub/api/users/ada/activity")


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--root", "/nonexistent"], {}, "/nonexistent"),
        ([], {"HIMALIA_LISTEN_FD": "x"}, "HIMALIA_LISTEN_FD"),
        ([], {"HIMALIA_SOCKET_MODE": "rw"}, "HIMALIA_SOCKET_MODE is 'rw'"),
        ([], HUB | {"JUPYTERHUB_SERVICE_URL": "ftp://x"}, "ftp://x"),
        ([], HUB | {"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "x"}, "JUPYTERHUB_OAUTH_ACCESS_SCOPES"),
        ([], HUB | {"JUPYTERHUB_CLIENT_ID": ""}, "JUPYTERHUB_CLIENT_ID"),
    ],
)
def test_wrong_settings_name_themselves(argv: list[str], environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse(argv, environ)


def test_a_token_is_made_up_for_who_gives_none(tmp_path: Path) -> None:
    first, second = (parse(["--root", str(tmp_path)], {}).token for _ in range(2))
    assert len(first) >= 32
    assert first != second


lines = st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=20), max_size=4).map("\n".join)
sources = st.fixed_dictionaries({"source": lines, "html": lines, "stream": lines})


@given(parts=sources)
def test_a_notebook_survives_the_disk(parts: dict[str, str]) -> None:
    outputs = [
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"text/html": parts["html"], "a/b+json": ["x"]},
        },
        {"output_type": "stream", "name": "stdout", "text": parts["stream"]},
    ]
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": parts["source"], "outputs": outputs}
    notebook = notebooks.new_notebook() | {"cells": [cell | {"execution_count": 1}]}

    assert notebooks.parse(notebooks.serialise(notebook), "x") == notebook
    assert complaint(notebook) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    cell=json_values, key=st.sampled_from(["cell_type", "outputs", "metadata", "source", "attachments", "id"])
)
def test_any_junk_in_a_notebook_is_described_or_fine_but_never_a_crash(cell: object, key: str) -> None:
    good = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "source": "",
        "outputs": [],
        "execution_count": None,
    }
    for value in (cell, good | {key: cell}, good | {"outputs": [cell]}):
        notebook = notebooks.new_notebook() | {"cells": [value]}
        notebooks.join_lines(notebook)
        notebooks.strip_transient(notebook)
        said = complaint(notebook)
        assert said is None or said.startswith("Notebook validation failed: ")


@given(name=st.text(min_size=1, max_size=200))
def test_a_workspace_name_becomes_a_safe_file_name(name: str) -> None:
    made = slug(name)
    assert "/" not in made
    assert not made.startswith(".")
    assert len(made) <= 128


@pytest.mark.parametrize(
    ("argv", "environ", "seconds"),
    [
        ([], {}, 3600),
        ([], {"JUPYTERHUB_API_TOKEN": "t", "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api"}, 0),
        ([], {"HIMALIA_KEEP_KERNELS": "60"}, 60),
        (["--keep-kernels", "30"], {"HIMALIA_KEEP_KERNELS": "60"}, 30),
        ([], {"HIMALIA_KEEP_KERNELS": "60", "HIMALIA_SAFE_MODE": "1"}, 0),
        (["--keep-kernels", "-1"], {}, 0),
    ],
)
def test_kernels_outlive_a_server_that_runs_by_itself(
    tmp_path: Path, argv: list[str], environ: dict[str, str], seconds: float
) -> None:
    hub = {"JUPYTERHUB_USER": "ada", "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada"} if environ else {}
    home = {"HOME": str(tmp_path), "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/", "JUPYTERHUB_HOST": ""}
    assert parse(["--root", str(tmp_path), *argv], {**home, **hub, **environ}).keep_kernels_s == seconds


@pytest.mark.parametrize(
    ("flag", "told"),
    [("--prt", "did you mean --port?"), ("--port=x", "invalid int value: 'x'"), ("--zzz", "'--zzz'\n")],
)
def test_a_wrong_option_is_told_without_the_list_of_all(
    capsys: pytest.CaptureFixture[str], flag: str, told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([flag], {})

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert told in said
    assert said.count("\n") == 2
