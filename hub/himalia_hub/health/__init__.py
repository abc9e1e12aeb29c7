"""Whether everything a hub needs is as it should be, and what to do where it is not."""
