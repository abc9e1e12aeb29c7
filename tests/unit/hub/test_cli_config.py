"""`himalia config`, and the reference pages made from the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from himalia_hub.cli import main
from himalia_hub.cli.reference import cli_page, configuration_page
from himalia_hub.cli.verbs import make_parser

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def test_show_masks_secrets_and_names_sources(tmp_path: Path, capsys, monkeypatch) -> None:
    file = tmp_path / "himalia.toml"
    file.write_text(
        "[proxy]\nauth_token = 'hunter2'\n[db]\nurl = 'postgresql://ann:hunter2@db/hub'\n"
        "[spawner.environment]\nAPI_KEY = 'hunter2'\nLANG = 'C'\n"
    )
    monkeypatch.setenv("HIMALIA_PROXY__PORT", "9000")

    assert main(["config", "show", "--data", str(tmp_path)]) == 0

    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert f'url = "postgresql://ann:***@db/hub"  # file {file}' in shown
    assert "port = 9000  # environment HIMALIA_PROXY__PORT" in shown
    assert 'environment = { "API_KEY" = "**********", "LANG" = "C" }' in shown
    assert "# secret_file is not set  # default" in shown


def test_show_as_json_is_json(tmp_path: Path, capsys) -> None:
    assert main(["config", "show", "--json", "--data", str(tmp_path), "--log.level", "debug"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["log.level"] == {"value": "debug", "source": "--log.level"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--spawner.kind", "proces"], "there is no spawner 'proces'; did you mean 'process'?"),
        (["--spawner.process.umaskk", "1"], "spawner.process.umaskk"),
        (["--db.url", "mysql://x"], "sqlite and postgresql are supported"),
        (["--hub.prot", "1"], "did you mean hub.port?"),
    ],
)
def test_check_refuses_what_the_start_would(tmp_path: Path, capsys, flags, told) -> None:
    assert main(["config", "check", "--data", str(tmp_path), *flags]) == 1

    assert told in capsys.readouterr().err


def test_check_tells_the_problems_of_every_plug_in_at_once(tmp_path: Path, capsys) -> None:
    flags = ["--spawner.kind", "dokcer", "--auth.methods", '{"a": {"kind": "ldpa"}, "b": {"kind": "oidc"}}']

    assert main(["config", "check", "--data", str(tmp_path), *flags, "--db.url", "mysql://x"]) == 1

    told = capsys.readouterr().err
    assert told.startswith("himalia: 4 problems in the configuration:\n")
    for each in ("'docker'?", "'ldap'?", "auth.methods.b.client_id", "sqlite and postgresql"):
        assert each in told


def test_check_is_content_with_an_empty_folder(tmp_path: Path, capsys) -> None:
    assert main(["config", "check", "--data", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_schema_describes_every_table(capsys) -> None:
    assert main(["config", "schema"]) == 0

    assert {"hub", "proxy", "db", "spawner"} <= set(json.loads(capsys.readouterr().out)["properties"])


def test_the_configuration_page_is_what_the_settings_say() -> None:
    assert (DOCS / "configuration.md").read_text() == configuration_page(), "run: make reference"


def test_the_command_line_page_is_what_the_parser_says() -> None:
    assert (DOCS / "cli.md").read_text() == cli_page(make_parser()), "run: make reference"
