"""People: rows, queries, and the users part of the REST API."""
