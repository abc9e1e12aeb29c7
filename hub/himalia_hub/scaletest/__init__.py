"""Many made-up people at once, each doing what a person does, with the time each step took."""
