# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the lab itself; a command that fails in a lab host is a result, not an error."""


class LabError(Exception):
    """The lab could not do what was asked; the message says why, with the host's last words if any."""


class Unavailable(LabError):
    """This machine cannot run the lab; the message says what is missing. Tests skip on it."""


class LabTimeout(LabError):
    """A command or a boot took too long and was ended. What the command had printed is kept."""

    def __init__(self, message, stdout=b"", stderr=b""):
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr
