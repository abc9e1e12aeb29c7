"""Sessions: which document or console talks to which kernel."""
