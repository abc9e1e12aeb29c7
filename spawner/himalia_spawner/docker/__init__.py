"""Servers as Docker containers, one each."""
