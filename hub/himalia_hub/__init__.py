"""The hub: users, rights, servers and pages."""
