"""Terminals: shells on pseudo-terminals, shared by any number of browser tabs."""
