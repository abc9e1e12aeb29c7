"""What a JupyterHub has, carried over: its database into ours, its configuration into a TOML."""
