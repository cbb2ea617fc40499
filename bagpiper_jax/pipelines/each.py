"""One pipeline that does the same with every item."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")

IN_PROCESS = ("--runner=DirectRunner", "--direct_running_mode=in_memory")
"""Options of a pipeline that runs in this process."""

ALL_CORES = ("--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=0")
"""Options of one that runs in a process for every core."""

_PYTHON_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""What DirectRunner comes to without Prism, a program that it would first download and run as it is."""


class PipelineError(Explained):
    """A pipeline that cannot run, or whose work failed; the message holds the first fault of a worker."""


def for_each(
    what: str,
    items: Iterable[_Item],
    work: Callable[[_Item], Mapping[str, int]],
    options: Sequence[str],
    prepare: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Does `work` with every item, on whatever runner the options name, and waits for the end.

    Args:
        what: the name of the work, in the runner's own pages and in messages.
        items: small values that can be pickled; each is worked on at least once, so work must be safe to repeat.
        work: what is done with an item; returns what it counted. It and `prepare` must be picklable.
        options: Beam's own, such as "--runner=DataflowRunner". DirectRunner is the one of Python, which downloads
            nothing; whoever wants Prism names it.
        prepare: runs once in every worker process before its first item.

    Returns:
        counter → its sum over all items that were worked on, as the runner's metrics tell.

    Raises:
        PipelineError: Apache Beam is not installed, an option is wrong, or work failed as often as the runner tries.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions

        from bagpiper_jax.pipelines.work import NAMESPACE, Work
    except ImportError:
        raise PipelineError(f"{what} on Apache Beam needs it: pip install 'bagpiper_jax[beam]'") from None
    try:
        pipeline = apache_beam.Pipeline(options=PipelineOptions(_without_prism(options)))
        pieces = pipeline | "items" >> apache_beam.Create(list(items)) | apache_beam.Reshuffle()
        _ = pieces | what >> apache_beam.ParDo(Work(work, prepare))
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:  # runners wrap what workers raise, each in its own way
        _log.debug("%s failed", what, exc_info=error)
        raise PipelineError(f"{what} on Apache Beam failed: {_first_fault(error)}") from error
    counters = result.metrics().query()["counters"]
    return {c.key.metric.name: c.result for c in counters if c.key.metric.namespace == NAMESPACE}


def _without_prism(options: Sequence[str]) -> list[str]:
    return [
        f"--runner={_PYTHON_RUNNER}" if option == "--runner=DirectRunner" else option for option in options
    ]


def _first_fault(error: BaseException) -> str:
    """The last line of what a worker wrote that says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
