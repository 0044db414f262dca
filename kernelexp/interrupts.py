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


def received() -> Interrupted | None:
    """The first signal that came; None so far."""
    return None


def check() -> None:
    """Raise ``received()`` where there is one."""
    if (stop := received()) is not None:
        raise stop
