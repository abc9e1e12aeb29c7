"""Signing in: accounts, cookies, cross-site protection, where to go next."""
