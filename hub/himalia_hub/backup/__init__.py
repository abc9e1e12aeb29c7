"""Everything a hub cannot make again, in one file, and back."""
