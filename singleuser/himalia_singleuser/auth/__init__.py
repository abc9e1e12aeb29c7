"""Who is asking: tokens, cookies, the hub's OAuth, and the rules against forged requests."""
