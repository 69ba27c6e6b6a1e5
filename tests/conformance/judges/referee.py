"""What the judges share: what telnetlib3 complains of, and how a verdict is given."""

import asyncio
import json
import logging
import sys

from telnetlib3.telopt import TM, name_command

# How long anything may take that should take no time.
DEADLINE = 15


class Ear(logging.Handler):
    """Keeps what telnetlib3 finds wrong, and what it says of STATUS reports."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.complaints = []
        self.statuses = []

    def emit(self, record):
        said = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.complaints.append(said)
        elif said.startswith("STATUS "):
            self.statuses.append(said)


EAR = Ear()


def options(states, wanted):
    """The names of the options in that state. Longer keys are about parts of an option; a mark is no state (RFC 860)."""
    keys = (key for key, state in states.items() if len(key) == 1 and key != TM and state is wanted)
    return sorted(name_command(key) for key in keys)


def verdict(writer, **found):
    """Says what telnetlib3 holds to be so."""
    print(
        json.dumps(
            {
                "local": options(writer.local_option, True),
                "remote": options(writer.remote_option, True),
                "refused": options(writer.local_option, False) + options(writer.remote_option, False),
                "complaints": EAR.complaints,
                **found,
            }
        ),
        flush=True,
    )


def run(coroutine):
    """Runs a match to its end, in time."""
    logging.getLogger().addHandler(EAR)
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        asyncio.run(asyncio.wait_for(coroutine, DEADLINE))
    except Exception:
        print("heard:", EAR.complaints, file=sys.stderr)
        raise
