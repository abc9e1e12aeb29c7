"""API tokens: rows, minting, look-up, and their part of the REST API."""
