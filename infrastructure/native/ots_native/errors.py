"""The one exception that the commands print as a line instead of a traceback."""


class NativeError(Exception):
    """Something a person can mend; its text says what and how."""
