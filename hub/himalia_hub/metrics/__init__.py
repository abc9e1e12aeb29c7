"""What the hub counts and times, as Prometheus reads it."""
