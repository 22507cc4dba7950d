"""The one error that is the user's to mend."""


class InputError(ValueError):
    """What a user gave cannot be used; the message is one line: what came, what was expected, what to do."""
