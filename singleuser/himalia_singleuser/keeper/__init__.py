"""Kernels outlive a server that is killed: the process that keeps them, and how the next server takes them back."""
