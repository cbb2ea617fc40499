"""Where things lie, for tests."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
REPOSITORY = TESTS.parent
GOLDEN = TESTS / "golden"
"""What commands and configurations must come out as."""
FIXTURES = TESTS / "fixtures"
"""Small files that tests read."""
HELPERS = TESTS / "helpers"
"""Some of its files are programs that tests start."""
