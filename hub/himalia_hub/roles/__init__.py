"""Roles over the REST API: made, given for good or for a time, and taken again."""
