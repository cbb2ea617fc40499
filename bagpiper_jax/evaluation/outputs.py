"""The folder that results are written to."""

import tempfile
from pathlib import Path

from bagpiper_jax.errors import Explained


def make(folder: str, setting: str, fault: type[Explained]) -> Path:
    """Makes it, and writes there to see that one can: before the work, which may take hours.

    Args:
        setting: what names the folder, for the message.
        fault: what is raised where it cannot be written.
    """
    output = Path(folder)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except (OSError, ValueError) as error:
        raise fault(f"{setting} {str(output)!r} cannot be written: {error}; name another folder") from error
    return output
