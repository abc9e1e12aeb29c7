"""Who used how much, and how much they may."""
