"""Rights: scope names as data, their algebra, who asks, and the one door in front of every handler."""
