"""The database: engine, base of the models, column types."""
