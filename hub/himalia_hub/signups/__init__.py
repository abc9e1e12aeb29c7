"""Strangers who ask for an account of the hub, and the administrators who let them in."""
