"""What spawners of containers share: the engine, images, labels, and what goes into a container."""
