"""Replies → verdicts, in threads, since evaluators compute and judges are waited for."""

import functools
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bagpiper_jax.corpora import assembly
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.errors import Explained
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Item, Judged, Reply
from bagpiper_jax.journal import JournalError
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.runs.progress import Underway

_log = logging.getLogger(__name__)


def unjudged(item: Item, reply: Reply) -> Judged:
    """An item and its reply without verdicts."""
    return Judged(item, reply, {}, reply.fault, reply.detail)


def judge_all(
    benchmark: Benchmark, items: Sequence[Item], replies: Sequence[Reply], threads: int | None = None
) -> list[Judged]:
    """Every item with its reply and its verdicts, in order.

    Args:
        threads: verdicts made at once; None takes a few for each processor.

    Raises:
        MissingEvaluatorError: the verdicts need what is not here.
        EndpointError, JournalError: the judge cannot be asked, or answers cannot be kept; those so far are.
    """
    if hasattr(benchmark, "prepare"):
        with Underway(f"{benchmark.name}: listening"):
            benchmark.prepare([pair for pair in zip(items, replies, strict=True) if not pair[1].fault])
    pool = ThreadPoolExecutor(threads or min(32, 4 * (os.cpu_count() or 1)), "bagpiper-verdicts")
    judged: list[Judged] = []
    try:
        with Underway(f"{benchmark.name}: judging", len(items)) as progress:
            for found in pool.map(functools.partial(_judged, benchmark), items, replies):
                judged.append(found)
                progress.add()
    finally:
        pool.shutdown(cancel_futures=True)
    return judged


def _judged(benchmark: Benchmark, item: Item, reply: Reply) -> Judged:
    if reply.fault:
        return unjudged(item, reply)
    try:
        return Judged(item, reply, dict(benchmark.verdicts(item, reply)))
    except (MissingEvaluatorError, BenchmarkError, EndpointError, JournalError):
        raise
    except Exception as error:  # a reply may hold anything; the others go on
        fault = assembly.fault_of(error)
        if not isinstance(error, Explained):
            _log.warning("%s: %s is not judged: %s", benchmark.name, item.id, fault, exc_info=error)
        return Judged(item, reply, {}, fault.reason, _said(fault))


def _said(fault: RecordError) -> str:
    return f"{fault.detail} ({fault.remedy})" if fault.remedy else fault.detail
