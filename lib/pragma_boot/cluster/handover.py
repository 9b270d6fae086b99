"""What a user asks for beyond the number of CPUs: by options, or by variables of the environment.

pragma_boot hands its options to vc-allocate in these variables, because the contract fixes the
arguments of the driver's allocate, which calls it.
"""
import os
from collections.abc import Mapping
from typing import NamedTuple

NODES, MEMORY, CPUS, SIZE = '--nodes', '--memory', '--frontend-cpus', '--frontend-memory'
SUBNET, DISK, USER = '--private-network', '--disk-size', '--user'

VARIABLES = {NODES: 'PRAGMA_NODES', MEMORY: 'PRAGMA_MEMORY', CPUS: 'PRAGMA_FRONTEND_CPUS',
             SIZE: 'PRAGMA_FRONTEND_MEMORY', SUBNET: 'PRAGMA_PRIVATE_NETWORK',
             DISK: 'PRAGMA_DISK_SIZE', USER: 'PRAGMA_USER'}
"""The options that pragma_boot and vc-allocate share, and the variable of each."""

Options = Mapping[str, str | None]


class Given(NamedTuple):
    """A user's word, and the option or variable that it was found in."""

    source: str
    text: str


def given(options: Options, option: str) -> Given | None:
    """The option, or otherwise its variable, where '' is none."""
    if text := options[option]:
        return Given(option, text)
    variable = VARIABLES[option]
    return Given(variable, text) if (text := os.environ.get(variable)) else None


def announce(options: Options) -> None:
    """Put the options into the environment, for the tools that a driver calls."""
    for option, variable in VARIABLES.items():
        if text := options[option]:
            os.environ[variable] = text
