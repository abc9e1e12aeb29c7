"""Shares of servers with people and groups, and the codes that become shares when they are accepted."""
