"""What one request is rejected with, while the others go on."""

from bagpiper_jax.corpora import assembly
from bagpiper_jax.dialogue import DialogueError
from bagpiper_jax.generation.replies import GeneratorError
from bagpiper_jax.generation.requests import EngineError, PoisonedError
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.outcomes import RecordError

_REASONS = {
    DialogueError: "bad_request",
    EngineError: "too_long",
    GeneratorError: "not_answerable",
    PoisonedError: "poisoned",
}
"""What a request is counted by that the engine does not answer; the error's message has the remedy."""


def fault_of(error: Exception, engine: Engine) -> RecordError:
    """The rejection that an error of one request comes to.

    Raises:
        WriteError, JournalError: the disk refuses.
        the error itself: the engine broke, so no request can be answered any more.
    """
    if not (engine.is_open or isinstance(error, RecordError)):
        raise error
    reason = next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "")
    return RecordError(reason, str(error)) if reason else assembly.fault_of(error)
