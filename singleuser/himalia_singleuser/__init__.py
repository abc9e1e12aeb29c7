"""The Jupyter server that each person gets."""
