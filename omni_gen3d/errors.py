"""What can go wrong, and the exit code the command line gives it."""


class OmniGen3DError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(OmniGen3DError, ValueError):
    """Something the caller handed in cannot be used: names the value, what is allowed, what to do."""

    exit_code = 2


class CancelledError(OmniGen3DError):
    """The caller asked to stop; nothing was written."""

    exit_code = 130


class MissingDependencyError(OmniGen3DError, ImportError):
    """An optional package is absent; the message holds the command that installs it."""

    exit_code = 2
