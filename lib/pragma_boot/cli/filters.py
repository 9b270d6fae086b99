"""Our own tools, called by pragma_boot."""
import os
import subprocess

from .. import ROOT
from ..system.failure import Said


def call(name: str, *arguments: str, document: bytes | None = None,
         stdout: int | None = None) -> bytes:
    """Run a tool; its output, where ``stdout`` is a pipe.

    ``document`` is its standard input. Raises Said for its failure, which it has reported.
    """
    done = subprocess.run([os.path.join(ROOT, 'bin', name), *arguments], input=document,
                          stdout=stdout, check=False)
    if done.returncode:
        raise Said(f'{name} exited with status {done.returncode}', done.returncode)
    return done.stdout


def dry_run(vc_in_path: str, num_cpus: int, key: str, name: str) -> bytes:
    """The document of a cluster as it would be allocated; nothing is reserved."""
    document = call('vc-parse', vc_in_path, stdout=subprocess.PIPE)
    return call('vc-allocate', '--dry-run', '--num-cpus', str(num_cpus), '--name', name,
                '--key', key, document=document, stdout=subprocess.PIPE)
