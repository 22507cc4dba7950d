"""The error for input that cannot be used, and the exception that ends a run of several processes."""


class InputError(ValueError):
    """Input that cannot be used.  The message is one line: what came, what was expected, what to do."""


class Stopped(Exception):
    """A run of several processes was stopped, or lost one of them.  Its checkpoints are kept."""
