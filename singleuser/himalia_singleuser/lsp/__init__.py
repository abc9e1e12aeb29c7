"""Language servers: found, run while a page wants one, and joined to pages by WebSockets."""
