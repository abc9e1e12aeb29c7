"""One thing done to many servers: asked for once, worked off by the hub, with an outcome for each."""
