"""Which rows of which file answer a request. A plan is a pure function of its inputs."""
