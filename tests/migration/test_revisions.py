"""The list of revisions is read from file names, so that a hub need not load alembic to know where it stands."""

from __future__ import annotations

import subprocess
import sys

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


def test_a_hub_whose_database_fits_loads_no_alembic_no_other_database_and_no_rich(
    sqlite_database: str,
) -> None:
    program = (
        "import asyncio, sys, himalia_hub.cli.running; from himalia_hub.db import migrate\n"
        "if 'make' in sys.argv: migrate.upgrade_blocking(sys.argv[1])\n"
        "else:\n"
        "    assert not asyncio.run(migrate.upgrade(sys.argv[1])).changed; asyncio.run(migrate.check(sys.argv[1]))\n"
        "    heavy = ('alembic', 'mako', 'psycopg', 'rich', 'pygments', 'sqlalchemy.dialects.postgresql')\n"
        "    print([name for name in heavy if sys.modules.get(name)])\n"
    )
    run = [sys.executable, "-I", "-c", program, sqlite_database]
    subprocess.run([*run, "make"], check=True, timeout=60)

    assert subprocess.check_output(run, text=True, timeout=60) == "[]\n"
