"""Events: what happened on this server, told to whoever subscribes."""
