"""The one error of this layer: something a person or another program gave us is not what it must be."""


class InvalidInput(ValueError):
    """A value was refused before anything was written; the message names it and says what is allowed."""
