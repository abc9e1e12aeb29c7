"""Servers as services of a Docker Swarm, one task each."""
