"""Running a service in place of this process: core never imports a service."""

import os
import sys
from collections.abc import Sequence

SERVICES = {
    "api": "millstream_api",
    "generator": "millstream_generator",
    "projector": "millstream_projector",
    "simulated": "millstream_generator.simulated",
    "local-model": "millstream_generator.local_model",
    "local-pull": "millstream_generator.local_pull",
    "audit-verify": "millstream_projector.audit.verify",
    "job": "millstream_projector.jobs.child",
}


def service_command(service: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs a service with this Python.

    ``-P`` keeps the working directory off the import path: a folder there must not stand in for
    a package.
    """
    return [sys.executable, "-P", "-m", SERVICES[service], *arguments]


def become(service: str, arguments: Sequence[str] = ()) -> None:
    """Replace this process by the service: same id, same terminal, nothing of ours in memory."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = service_command(service, arguments)
    os.execv(command[0], command)  # noqa: S606  # a fixed list, no shell
