"""A plan on a cluster: blocks as tasks, parts, fetching while extracting, job arrays."""
