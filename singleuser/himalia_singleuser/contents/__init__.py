"""Files, notebooks and folders below the root, as the contents API shows them."""
