"""Studies: the specification, the runner and the store of results."""
