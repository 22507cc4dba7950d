"""The one error that is the user's to mend, and the end of a run of several processes that was stopped."""


class InputError(ValueError):
    """What a user gave cannot be used; the message is one line: what came, what was expected, what to do."""


class Stopped(Exception):
    """A run of several processes was told to stop, or lost one of them; what it has kept on the way is kept."""
