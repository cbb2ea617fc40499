"""`bagpiper JOB FLAGS…`, which is `python -m bagpiper_jax JOB FLAGS…`: lists the jobs and runs one."""

import difflib
import sys

from bagpiper_jax.jobs import COMPUTING, JOBS, run
from bagpiper_jax.runs.huge_pages import start_again_with_huge_pages

EXIT_USAGE = 2


def main() -> None:
    """The command line. Unknown jobs end with exit code 2 and the nearest name."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name in COMPUTING:
        start_again_with_huge_pages()
    if name in JOBS:
        run(name, argv)
    if name in ("-h", "--help", "help"):
        print(usage())
        return
    near = difflib.get_close_matches(name, JOBS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    print(f"bagpiper: there is no job {name!r}{hint}\n\n{usage()}", file=sys.stderr)
    sys.exit(EXIT_USAGE)


def usage() -> str:
    """The jobs in the order in which data walks through them."""
    width = max(map(len, JOBS))
    lines = [f"  {name:{width}}  {what}" for name, what in JOBS.items()]
    return "\n".join(
        [
            "usage: bagpiper JOB [--gin_file=FILE …] [--gin.NAME.FIELD=VALUE …]",
            "",
            *lines,
            "",
            "`bagpiper JOB --help` tells every setting of a job: its type, its default and what it means.",
        ]
    )


if __name__ == "__main__":
    main()
