"""Map a Python function over many inputs."""
