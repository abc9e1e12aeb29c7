"""Kernels: finding their specs, running them, and relaying between browsers and their ZMQ sockets."""
