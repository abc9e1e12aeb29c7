"""Runs the steps on a connection that the caller opened, locked and will commit.

Nothing is configured here on purpose: `himalia db upgrade`, `himalia up` and the tests all come through
`himalia_hub.db.migrate`, which owns the transaction. Steps therefore run in one transaction on both
databases, and one that fails leaves the schema as it was.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
