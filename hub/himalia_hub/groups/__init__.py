"""Groups of people: rows, queries and the REST API."""
