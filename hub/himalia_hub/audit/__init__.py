"""Who did what: rows that are only added, of every change and of every visit to somebody else's server."""
