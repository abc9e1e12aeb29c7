"""JupyterLab as its wheel brings it: the page, its assets, and the API that only front ends use."""
