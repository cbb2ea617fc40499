"""One server for the tests of this folder that need nothing else of it."""

import pytest
from tiny_server import ENGINE, random_generator, running

from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.service import Engine


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """In place of the one for all tests: the engine of these files keeps its programs from one to the next."""


@pytest.fixture(scope="session")
def generator() -> Generator:
    return random_generator()


@pytest.fixture(scope="session")
def engine(generator):
    with Engine(generator, ENGINE) as engine:
        yield engine


@pytest.fixture(scope="session")
def served(generator, engine):
    with running(generator, engine=engine) as server:
        yield server
