"""Errors a user can act on: one sentence that says what is wrong, where, and what to do about it."""


class CrossViewError(Exception):
    """Base of every error this package raises on purpose; its text is one sentence with the remedy."""


class InputError(CrossViewError):
    """A message, image file or option cannot be used (NaN fix, unknown encoding, zero camera matrix, …)."""


class MissingInputError(InputError):
    """Something needed has not arrived or does not exist (a topic, a transform, a file)."""


class MapError(CrossViewError):
    """The aerial map cannot be read (corrupt tile, wrong file format)."""


class NoImageryError(MapError):
    """The map holds no imagery where it was asked for."""


class ModelError(CrossViewError):
    """Weights are missing, damaged or do not fit the network."""
