#!/usr/bin/env python3
"""bench.py: measure our tools beside the programs that a user might use instead

Usage:
  bench.py [--rounds N] [--slow-rounds N] [--row NAME]... [--output DIR]
  bench.py --list [--output DIR]
  bench.py (-h | --help)

Runs the ways of each row in turn, round after round, in this one run, and
prints each way's median time, its ratio to ours, the memory of its largest
process and the disk that it took, then what is to be reached.

Options:
  --rounds N       runs of each way; more of short ones [default: 5]
  --slow-rounds N  runs of a way that takes many minutes [default: 5]
  --row NAME       this row alone; may be given again (default: all)
  --output DIR     write all samples to DIR/bench.csv, what is printed to
                   DIR/bench.md, and a plot to DIR/bench.svg
  --list           name the rows
  -h, --help       show this text
"""
import csv
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import docopt

from bench.rows import ROWS
from bench.site import Site

VERSIONS = {
    'Debian': 'cat /etc/debian_version', 'Linux': 'uname -r',
    'Python': '/usr/bin/python3 -c "import platform; print(platform.python_version())"',
    'libvirt': 'virsh --version', 'QEMU': 'qemu-img --version | sed -n "1s/.*version //p"',
    'e2fsprogs': 'mke2fs -V 2>&1 | sed -n "1s/mke2fs //p"',
    'libguestfs': "guestfish --version | sed 's/guestfish //'",
    'gzip': "gzip --version | sed -n '1s/gzip //p'", 'pigz': "pigz --version | sed 's/pigz //'",
    'igzip': "igzip --version 2>&1 | sed -n '1s/.* v*//p'",
    'virt-install': 'virt-install --version',
}
"""How each thing that is measured tells its version."""


class Sample(NamedTuple):
    """One run of one way: seconds, KiB of its largest process, bytes of disk or None."""

    seconds: float
    memory: int
    disk: int | None


def machine():
    """The machine and the versions, a line each."""
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        model = next((line.split(':', 1)[1].strip() for line in file
                      if line.startswith('model name')), 'unknown CPU')
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30)
    output = {name: subprocess.run(['bash', '-c', command], capture_output=True, text=True,
                                 check=False).stdout.strip() or 'not found'
            for name, command in VERSIONS.items()}
    return (f'{model}, {os.cpu_count()} CPUs, {memory:.0f} GiB; guests and appliances under TCG\n'
            + ', '.join(f'{name} {version}' for name, version in output.items()))


def measure(way, environment):
    """Run a way once; its Sample. Raises CalledProcessError where it fails."""
    if way.prepare:
        way.prepare()
    with tempfile.NamedTemporaryFile('r') as output, open(way.input or os.devnull, 'rb') as stdin:
        # GNU time's child alone: one of ours would count the memory of this process as its own.
        begin = time.perf_counter()
        done = subprocess.run(['time', '--quiet', '-f', '%M', '-o', output.name, *way.command],
                              stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              env=environment, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode:
            sys.exit(f'bench: {way.name}: {done.stderr.decode().strip()}')
        memory = int(output.read())
    disk = way.disk() if way.disk else None
    if way.clean:
        way.clean()
    return Sample(seconds, memory, disk)


def run(row, rounds, slow_rounds, site):
    """The Samples of a row's ways, by name; the first way of a round changes with each."""
    chosen = row.ways(site)
    samples = {way.name: [] for way in chosen}
    rounds, slow_rounds = rounds * row.often, slow_rounds * row.often
    for turn in range(max(rounds, slow_rounds)):
        for way in chosen[turn % len(chosen):] + chosen[:turn % len(chosen)]:
            if turn < (1 if way.once else slow_rounds if way.slow else rounds):
                samples[way.name].append(measure(way, site.environment))
                print('.', end='', file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def middle(samples):
    """For each way, the Sample of the medians of each figure."""
    return {name: Sample(*(None if values[0] is None else statistics.median(values)
                           for values in zip(*found, strict=True)))
            for name, found in samples.items()}


WAYS = ['| way | runs | median s | ratio | peak MB | disk MB |', '|---|--:|--:|--:|--:|--:|']
GOALS = ['| to reach | measured | at most | |', '|---|--:|--:|---|']


def ways(row, samples):
    """Lines of a Markdown table, a way each."""
    medians = middle(samples)
    for name, sample in medians.items():
        disk = '' if sample.disk is None else f'{sample.disk / 1e6:.2f}'
        yield (f'| {name} | {len(samples[name])} | {sample.seconds:.3f} '
               f'| {sample.seconds / medians[row.first].seconds:.2f} '
               f'| {sample.memory / 1000:.0f} | {disk} |')


def goals(row, samples, prefix=''):
    """Lines of a Markdown table, a thing that is to be reached each."""
    for what, figure, most, unit in row.goals(middle(samples)):
        yield (f'| {prefix}{what} | {figure:.3g}{unit} | {most:g}{unit} '
               f'| {"reached" if figure <= most else "NOT reached"} |')


def report(about, results):
    """One table of all ways and one of all that was to be reached, as Markdown."""
    lines = [about, '', *WAYS]
    for row, samples in results:
        lines += [f'| **{row.what}** | | | | | |', *ways(row, samples)]
    lines += ['', *GOALS]
    for row, samples in results:
        lines += goals(row, samples, f'{row.name}: ')
    return '\n'.join([*lines, ''])


def save(results, path):
    """Write every sample of all rows, a line each."""
    with open(path, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['row', 'way', 'round', 'seconds', 'largest_process_kib', 'disk_bytes'])
        for row, samples in results:
            for name, found in samples.items():
                for count, one in enumerate(found, 1):
                    writer.writerow([row.name, name, count, f'{one.seconds:.4f}', one.memory,
                                     one.disk])


def plot(results, path):
    """Bars of all rows' medians on one logarithmic scale."""
    import matplotlib
    matplotlib.use('svg')
    from matplotlib import pyplot
    heights = [len(samples) for _, samples in results]
    figure, axes = pyplot.subplots(len(results), 1, squeeze=False, sharex=True,
                                   layout='constrained',
                                   figsize=(9, 0.3 * sum(heights) + 0.7 * len(results) + 0.5),
                                   height_ratios=heights)
    for (row, samples), axis in zip(results, axes[:, 0], strict=True):
        medians = middle(samples)
        names = list(medians)
        seconds = [medians[name].seconds for name in names]
        axis.barh(names, seconds,
                  color=['tab:blue' if name.startswith(('ours', 'vc-')) else 'lightgrey'
                                         for name in names])
        for index, value in enumerate(seconds):
            axis.text(value, index, f' {value:.3g} s', va='center', fontsize=8)
        axis.invert_yaxis()
        axis.set_xscale('log')
        axis.set_title(f'{row.name}: {row.what}', loc='left', fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[['top', 'right']].set_visible(False)
    axes[0, 0].set_xlim(0.002, 2000)
    axes[-1, 0].set_xlabel('seconds, median; ours is blue; the scale is logarithmic')
    figure.savefig(path, bbox_inches='tight')   # titles may be wider than the bars


def main():
    # SIGTERM cleans up as Ctrl-C does, which a shell's background job would ignore.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    options = docopt.docopt(__doc__)
    rows = {row.name: row for row in ROWS}
    if options['--list']:
        print(*(f'{row.name:13} {row.what}' for row in ROWS), sep='\n')
        return
    unknown = set(options['--row']) - set(rows)
    if unknown:
        sys.exit(f"bench: no row '{unknown.pop()}'")
    try:
        rounds, slow_rounds = (max(int(options[key]), 1) for key in ('--rounds', '--slow-rounds'))
    except ValueError:
        sys.exit('bench: --rounds and --slow-rounds take a number')
    about, results = machine(), []
    print(about, end='\n\n')
    folder = Path(tempfile.mkdtemp(prefix='pragma-bench-', dir='/var/tmp'))
    site = Site(folder)
    try:
        for row in [rows[name] for name in options['--row']] or ROWS:
            print(f'{row.name} ', end='', file=sys.stderr, flush=True)
            results.append((row, run(row, rounds, slow_rounds, site)))
            # Of the cluster that all rows allocate, what the last way has left.
            site.tool('vc-clean', 'bench')
            print(row.what, '', *WAYS, *ways(*results[-1]), '', *GOALS, *goals(*results[-1]), '',
                  sep='\n', flush=True)
    finally:
        site.close()
        shutil.rmtree(folder)
    if options['--output']:
        output = Path(options['--output'])
        output.mkdir(exist_ok=True)
        (output / 'bench.md').write_text(report(about, results), encoding='utf-8')
        save(results, output / 'bench.csv')
        plot(results, output / 'bench.svg')
        print(f'{output}/bench.csv, bench.md and bench.svg hold this run')


if __name__ == '__main__':
    main()
