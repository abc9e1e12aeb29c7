"""Single-user servers: what is wished, what is seen, and the loop that brings the two together."""
