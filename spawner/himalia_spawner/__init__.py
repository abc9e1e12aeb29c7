"""Backends that start and stop single-user servers."""
