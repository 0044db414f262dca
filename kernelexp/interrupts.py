"""Being told to stop, by a person or a batch system."""


class Interrupted(BaseException):
    """A signal asked this process to stop.

    Attributes:
        signal: its number.
        exit_code: what the process ends with, 128 and the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
        self.exit_code = 128 + signal
