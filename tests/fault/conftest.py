"""What all fault tests share: a database for a module, and the question at the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
import sqlalchemy as sa

import schema
import witness

FAILED = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def nothing_was_lost(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test here ends by asking `witness.nothing_lost`, or it has not shown what it is here for."""
    before = witness.checked.total()
    yield
    if not request.node.stash.get(FAILED, False):
        assert witness.checked.total() > before, "this test never called witness.nothing_lost"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def postgres_template(postgres_url: str) -> str:
    """With the schema in it: how a database comes by that is no fault's matter."""
    return schema.postgres_template(postgres_url)


@pytest.fixture(scope="module")
def module_postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database for one module."""
    server = sa.create_engine(
        sa.make_url(postgres_url).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
    )
    with server.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE faults")
    yield sa.make_url(postgres_url).set(database="faults").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE faults WITH (FORCE)")
