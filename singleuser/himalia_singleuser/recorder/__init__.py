"""Outputs of cells whose browser went away: kept, shown to the next one, and written into the notebook."""
