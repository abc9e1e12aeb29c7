"""The list of revisions is read from file names, so that a hub need not load alembic to know where it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from himalia_migrations.locate import revisions, script_location


def test_the_names_of_the_files_say_what_alembic_reads_in_them() -> None:
    config = Config()
    config.set_main_option("script_location", script_location())
    scripts = ScriptDirectory.from_config(config)
    walked = [script.revision for script in scripts.walk_revisions()]

    assert revisions() == walked[::-1]
    assert revisions()[-1] == scripts.get_current_head()


def test_a_hub_loads_no_alembic_no_other_database_and_no_rich_even_when_it_makes_the_database(
    sqlite_database: str,
) -> None:
    program = (
        "import asyncio, sys, himalia_hub.cli.running; from himalia_hub.db import apart, migrate\n"
        "print(asyncio.run(apart.upgrade(sys.argv[1])).changed, asyncio.run(migrate.check(sys.argv[1])))\n"
        "heavy = ('alembic', 'mako', 'psycopg', 'rich', 'pygments', 'sqlalchemy.dialects.postgresql')\n"
        "print([name for name in heavy if sys.modules.get(name)])\n"
    )
    run = [sys.executable, "-I", "-c", program, sqlite_database]

    for changed in (True, False):
        said = subprocess.check_output(run, text=True, timeout=60)
        assert said == f"{changed} {revisions()[-1]}\n[]\n"


def test_what_hinders_an_upgrade_in_a_process_of_its_own_is_told_as_here(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from himalia_hub.db import apart, migrate\n"
        "for upgrade in (apart.upgrade, migrate.upgrade):\n"
        "    try: asyncio.run(upgrade(sys.argv[1]))\n"
        "    except Exception as error: print(type(error).__name__, error, error.remedy, sep='; ')\n"
    )
    url = f"sqlite:///{tmp_path / 'no such folder' / 'himalia.sqlite'}"

    apart, here = subprocess.check_output(
        [sys.executable, "-I", "-c", program, url], text=True, timeout=60
    ).splitlines()

    assert apart == here
    assert here.startswith("Unavailable; the database")
    assert here.endswith("; may the hub write there?")
