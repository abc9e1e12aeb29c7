"""Fixtures for every layer: the two databases, the Docker engine."""

from __future__ import annotations

import gc
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa

import docker_lab
import postgres
import swarm_lab

_numbers = itertools.count(1)

# How long an example takes says how busy the machine is, not whether the law holds.
hypothesis.settings.register_profile(
    "himalia", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("himalia")

# A script that runs the suite in its background has the keyboard's signals ignored, and everything started from here
# inherits that: no Control-C in a terminal would do anything, which no server in a process of its own lets happen.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

LAYERS = ("unit", "migration", "component", "conformance", "journey", "fault", "browser")
SYSTEMS = ("component/spawner", "component/deploy", "conformance", "journey", "fault", "browser/test_")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark whole systems: they share names of this machine, such as Docker's bridge, and run one after the other."""
    if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SYSTEMS):
        item.add_marker(pytest.mark.system)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick layers first; within a layer the order stays random."""
    folder = Path(__file__).parent
    layer = {name: number for number, name in enumerate(LAYERS)}
    items.sort(key=lambda item: layer.get(item.path.relative_to(folder).parts[0], len(LAYERS)))


@pytest.fixture(autouse=True, scope="module")
def leaks_are_told_here() -> Iterator[None]:
    """Collect cycles at each module's end, so that a socket left open fails that module and no later one.

    What survives is left out of later collections: each then takes milliseconds, and not half a second.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A private PostgreSQL cluster, started once and only when a test asks."""
    try:
        postgres.binaries()
    except postgres.PostgresMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    with postgres.cluster() as running:
        yield running.url


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker_lab.Lab]:
    """A private Docker engine, started once and only when a test asks."""
    with docker_lab.docker_lab() as engine:
        yield engine


@pytest.fixture(scope="session")
def swarm() -> Iterator[swarm_lab.SwarmLab]:
    """A private swarm of three engines, started once and only when a test asks."""
    with swarm_lab.swarm_lab() as lab:
        yield lab


@pytest.fixture
def postgres_template() -> str:
    """What `postgres_database` is a copy of: PostgreSQL's own, which is empty."""
    return "template1"


@pytest.fixture
def postgres_database(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database: empty, or as `postgres_template` is."""
    name = f"test_{next(_numbers)}"
    server = sa.create_engine(
        sa.make_url(postgres_url).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
    )
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """The URL of a fresh, empty SQLite database."""
    return f"sqlite:///{tmp_path / 'himalia.sqlite'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty database; the test runs once on each kind."""
    url: str = request.getfixturevalue(
        "sqlite_database" if request.param == "sqlite" else "postgres_database"
    )
    return url
