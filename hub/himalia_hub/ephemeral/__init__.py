"""Throw-away sessions from a link to a repository: what BinderHub does, on one machine."""
