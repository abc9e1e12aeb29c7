"""What running servers use, measured now and then: memory and CPU."""
