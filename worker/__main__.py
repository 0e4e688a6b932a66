"""``python -m worker``: the whole stack on this machine, in one command."""

from __future__ import annotations

import argparse
import os
import sys

from regrow.errors import RegrowError

_ABOUT = """\
Runs Regrow on this machine: an embedded Valkey, a SQLite database, a Celery worker, beat and the page.
Prints `ready URL` on a line of its own when all of them are up. Ctrl-C drains and stops.
"""
_VARIABLES = """\
environment:
  REGROW_PORT          port of the page (else 8000 or the next free one)
  REGROW_HOME          folder of the state (else ./var)
  REGROW_PROFILE       development (default here), testing (every interval in seconds) or production
  REGROW_REDIS_URL     use this Redis; no Valkey is started
  REGROW_DATABASE_URL  use this database instead of SQLite
  API_KEY              the key for the page's details (else one is made and kept)
"""


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m worker",
        description=_ABOUT,
        epilog=_VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    from worker.stack.console import Console
    from worker.stack.run import run

    try:
        return run(os.environ, Console())
    except RegrowError as error:
        print(f"regrow: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
