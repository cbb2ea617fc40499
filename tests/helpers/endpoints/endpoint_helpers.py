"""Asking a test's endpoint without a job around."""

import asyncio
import json

from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Client, Endpoint, text_question
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.outcomes import RecordError

QUICK = dict(model="m", seconds=20.0, first_wait=0.01, longest_wait=0.1, attempts=3, concurrency=8)


def ask(folder, server, prompts, environment=None, **settings) -> list:
    """For each prompt in order the answer's text, the reason of its rejection, or the fault that ended the job."""

    async def all_of() -> list:
        wanted = Endpoint(**{"url": server.url, **QUICK, **settings})
        with Answers(folder / "answers.jsonl") as answers:
            async with Client(wanted, answers, environment or {}) as client:
                questions = [
                    text_question("s", f"c{i}", prompt, 0.0, 100) for i, prompt in enumerate(prompts)
                ]
                return await asyncio.gather(*map(client.ask, questions), return_exceptions=True)

    results = asyncio.run(all_of())
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, RecordError | EndpointError):
            raise result
    return [
        r.reason if isinstance(r, RecordError) else r if isinstance(r, Exception) else r.text for r in results
    ]


def lines(folder) -> list[dict]:
    """What was journaled."""
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
