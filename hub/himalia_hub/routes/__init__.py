"""Which routes should exist, and making the proxy agree."""
