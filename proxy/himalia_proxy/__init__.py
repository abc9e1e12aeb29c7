"""The routing process in front of everything, and the client the hub speaks to it with."""
