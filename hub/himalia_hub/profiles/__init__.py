"""What people may start: profiles, who may choose which, and what a choice comes to."""
