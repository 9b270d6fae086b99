"""The rows of bench.py: what is measured, beside what, and what is to be reached.

Each row runs the real tools on real images at a real libvirt, in a site of its own (bench.site).
"""
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import fetch, ganeti, hpc, ready, scale
from bench.site import BIN, USER, Site

BLOCK = 4096
FIRST = 'ours'
FLOOR = 'igzip to nothing, then its non-zero blocks synced'
ALONE = 'virsh define and start, two at a time'
BY_HAND = 'virt-clone, guestfish, virsh start each'
IMPORT = 'python3 -c "import lxml.etree"'


class Way(NamedTuple):
    """One way to do a row's work: what is run and measured, and what is not measured beside it.

    ``once``: run in the first round alone, in the order of the ways, whatever the number of rounds.
    """

    name: str
    command: list
    input: Path | None = None
    prepare: Callable | None = None
    clean: Callable | None = None
    disk: Callable | None = None
    slow: bool = False
    once: bool = False


class Row(NamedTuple):
    """A row: ``ways`` makes its Ways in a Site, ``goals`` what the medians are to reach.

    A goal is (what, figure, most, unit). ``first`` is the way that the others are compared with.
    A row of short ways is run ``often`` times as many rounds: a median of few is noise there.
    """

    name: str
    what: str
    ways: Callable
    goals: Callable
    first: str = FIRST
    often: int = 1


def allocated(path):
    """The bytes of disk that files below a path take."""
    paths = [path] if path.is_file() else [one for one in path.rglob('*') if one.is_file()]
    return sum(one.stat().st_blocks * 512 for one in paths)


def shell(script, *arguments):
    """A command of the shell, with its arguments as $1, $2, …"""
    return ['bash', '-eu', '-o', 'pipefail', '-c', script, 'bash', *map(str, arguments)]


def dense(path, target):
    """Write the blocks of an image that are not all zeros to ``target``, one after another."""
    with open(path, 'rb') as image, open(target, 'wb') as file:
        while block := image.read(BLOCK):
            if block.strip(b'\0'):
                file.write(block)
    return target


def stage_ways(name, packed):
    """Ours, and the ways to unpack a .gz by hand."""
    def ways(site):
        image, out = packed(site), site.folder / 'out.img'
        parsed = site.entry(name, image)
        blocks = dense(site.staged(name)[1], site.folder / f'{name}.dense')

        def by_hand(label, script):
            return Way(label, shell(script, image, out, blocks), disk=lambda: allocated(out),
                       clean=out.unlink)

        return [Way('ours', [BIN / 'vc-stage'], parsed, prepare=site.forget_images,
                    disk=lambda: allocated(site.temp / 'images')),
                by_hand('gunzip -c', 'gunzip -c "$1" >"$2"'),
                by_hand('pigz -dc', 'pigz -dc "$1" >"$2"'),
                by_hand('unpigz, cp --sparse', 'pigz -dc "$1" >"$2.tmp"; '
                        'cp --sparse=always "$2.tmp" "$2"; rm "$2.tmp"'),
                by_hand(FLOOR, 'igzip -dc "$1" >/dev/null; cp "$3" "$2"; sync "$2"')]
    return ways


def stage_goals(medians):
    """What is to be reached by both rows of staging."""
    ours, floor = medians['ours'], medians[FLOOR]
    return [('of the time of gunzip', ours.seconds / medians['gunzip -c'].seconds, 0.35, ''),
            ('of the time of igzip and the write', ours.seconds / floor.seconds, 1.3, ''),
            ('of the disk of its non-zero blocks', ours.disk / floor.disk, 1.02, ''),
            ('memory', ours.memory / 1000, 100, ' MB')]


PEERS = {
    '.qcow2': ('qemu-img convert', 'qemu-img convert -f qcow2 -O raw "$1" "$2"; sync "$2"'),
    '.xz': ('xz -dc', 'xz -dc "$1" >"$2"; sync "$2"'),
    '.zst': ('zstd -dc', 'zstd -dcq "$1" >"$2"; sync "$2"'),
    '.bz2': ('bzip2 -dc', 'bzip2 -dc "$1" >"$2"; sync "$2"'),
}
"""The format's own program for each format; all write the disk out at the end, as ours does."""


def format_ways(site):
    """Ours and the format's own program, for each format of the same image."""
    ways = []
    for suffix, (program, script) in PEERS.items():
        image, out = site.packed_as(suffix), site.folder / 'out.img'
        parsed = site.entry(f'bench{suffix.replace(".", "-")}', image)
        ways += [Way(f'ours, {suffix}', [BIN / 'vc-stage'], parsed, prepare=site.forget_images,
                     disk=lambda: allocated(site.temp / 'images')),
                 Way(program, shell(script, image, out), clean=out.unlink,
                     disk=lambda out=out: allocated(out))]
    return ways


def format_goals(medians):
    """Each format against its own program."""
    return [goal for suffix, (program, _) in PEERS.items() for goal in (
        (f'{suffix}, of the time of {program}',
         medians[f'ours, {suffix}'].seconds / medians[program].seconds, 1.1, ''),
        (f'{suffix}, memory', medians[f'ours, {suffix}'].memory / 1000, 600, ' MB'))]


def again_ways(site):
    """Ours with the image there, and without."""
    parsed = site.entry('bench-demo', site.demo())
    return [Way('ours, again', [BIN / 'vc-stage'], parsed,
                prepare=lambda: site.staged('bench-demo')),
            Way('ours, the first time', [BIN / 'vc-stage'], parsed, prepare=site.forget_images)]


def inject_ways(site):
    """Ours for one and for nine nodes, and one node by libguestfs' tools."""
    site.entry('bench-demo', site.demo())
    staged, image = site.staged('bench-demo')
    confs = {jobs: site.configured(f'jobs{jobs}', jobs=jobs) for jobs in (1, 2)}
    out, document = site.folder / 'out.qcow2', site.folder / 'inject.xml'
    vc_out, disks = site.folder / 'vc-out.xml', site.temp / 'clusters' / 'bench'

    def allocate(computes):
        site.tool('vc-clean', 'bench')
        site.saved('inject', site.tool('vc-allocate', '--num-cpus', computes, '--name', 'bench',
                                       '--key', f'{site.key}.pub', input=staged.read_bytes()))

    def ours(label, computes, jobs):
        return Way(label, [BIN / 'vc-inject', '--site-conf', confs[jobs]], document,
                   prepare=lambda: allocate(computes),
                   disk=lambda: sum(map(allocated, disks.glob('*.qcow2'))) / (computes + 1),
                   clean=lambda: site.tool('vc-clean', 'bench'))

    def by_hand(label, script):
        return Way(label, shell(script, image, out, vc_out), disk=lambda: allocated(out),
                   clean=out.unlink)

    allocate(0)
    vc_out.write_bytes(site.tool('vc-out', input=document.read_bytes()))
    overlay = 'qemu-img create -q -f qcow2 -F raw -b "$1" "$2"; '
    return [ours('ours, 1 node', 0, 1), ours('ours, 9 nodes', 8, 1),
            ours('ours, 9 nodes, two at a time', 8, 2),
            by_hand('guestfish',
                    overlay + 'guestfish -a "$2" -m /dev/sda1 upload "$3" /root/vc-out.xml'),
            by_hand('virt-customize',
                    overlay + 'virt-customize -q -a "$2" --upload "$3:/root/vc-out.xml"'),
            by_hand('a sparse copy of the image, nothing in it', 'cp --sparse=always "$1" "$2"')]


def inject_goals(medians):
    """One node, one more node, and its disk."""
    one = medians['ours, 1 node']
    each = [(medians[f'ours, 9 nodes{how}'].seconds - one.seconds) / 8 * 1000
            for how in ('', ', two at a time')]
    return [('of the time of guestfish', one.seconds / medians['guestfish'].seconds, 0.02, ''),
            ('of the time of virt-customize', one.seconds / medians['virt-customize'].seconds, 0.02,
             ''),
            ('one more node', each[0], 60, ' ms'),
            ('one more node, two at a time', each[1], 30, ' ms'),
            ('disk a node', medians['ours, 9 nodes'].disk / (1 << 20), 1, ' MiB')]


def capture_ways(site):
    """Ours for both images of a cluster, and one disk of it by the tools that others use."""
    site.entry('bench-demo', site.demo())
    staged, _ = site.staged('bench-demo')
    site.tool('vc-clean', 'bench')
    document = site.saved('capture', site.tool(
        'vc-allocate', '--num-cpus', 1, '--name', 'bench', '--key', f'{site.key}.pub',
        input=staged.read_bytes()))
    site.tool('vc-inject', input=document.read_bytes())
    disk = site.temp / 'clusters' / 'bench' / 'frontend.qcow2'
    base, out = site.folder / 'captured', site.folder / 'out.qcow2'
    base.mkdir(exist_ok=True)

    def forget():
        for path in base.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def ours(suffix):
        return Way(f'ours, both images, {suffix}',
                   [BIN / 'vc-capture', 'bench', '--as', 'new', '--base_path', base, '--format',
                    suffix],
                   disk=lambda: allocated(base / f'new/new-frontend.img.{suffix}'), clean=forget)

    def by_hand(label, script, slow=False):
        return Way(label, shell(script, disk, out), disk=lambda: allocated(out), clean=out.unlink,
                   slow=slow)

    return [ours('gz'), ours('zst'),
            by_hand(CONVERT, 'qemu-img convert -c -O qcow2 "$1" "$2"'),
            by_hand(SPARSIFY, 'virt-sparsify -q --compress --convert qcow2 "$1" "$2"', True)]


CONVERT, SPARSIFY = 'qemu-img convert -c, one disk', 'virt-sparsify --compress, one disk'


def capture_goals(medians):
    """Ours for two disks against one disk by others, none of whom removes a secret."""
    return [(f'{name}, of the time of {other}',
             medians[name].seconds / 2 / medians[other].seconds, 1, '')
            for name in ('ours, both images, gz', 'ours, both images, zst')
            for other in (CONVERT, SPARSIFY)]


SEEDS = 64


def seed_ways(site):
    """The seed disks of one and of many nodes, their disks being there, and one by hand."""
    parsed = site.entry('bench-seed', site.made('little', 16, 1))
    parsed.write_text(re.sub('<driver>[^<]*', '<driver>cloud_init', parsed.read_text()))
    disks, texts = site.temp / 'clusters' / 'bench', site.folder / 'texts'

    def ours(computes):
        document = site.folder / f'seed-{computes}.xml'

        def prepare():
            document.write_bytes(site.injected('bench', 'bench-seed', computes).read_bytes())
            for path in disks.glob('*.seed.img'):
                path.unlink()
        return Way(f'ours, {computes + 1} nodes', [BIN / 'vc-inject'], document, prepare=prepare,
                   disk=lambda: max(map(allocated, disks.glob('*.seed.img'))),
                   clean=lambda: site.tool('vc-clean', 'bench'))

    site.injected('bench', 'bench-seed', 0)
    texts.mkdir(exist_ok=True)
    for name in ('meta-data', 'user-data', 'network-config'):
        (texts / name).write_bytes(site.run('mtype', '-i', disks / 'frontend.seed.img',
                                            f'::{name}'))
    site.tool('vc-clean', 'bench')
    out = site.folder / 'seed.img'
    script = 'truncate -s 1M "$2"; mkfs.vfat -n CIDATA "$2" >/dev/null; mcopy -i "$2" "$1"/* ::'
    return [ours(0), ours(SEEDS), Way('mkfs.vfat and mcopy, 1 node', shell(script, texts, out),
                                      disk=lambda: allocated(out), clean=out.unlink)]


def seed_goals(medians):
    """One more node, and the largest seed disk."""
    one, many = medians['ours, 1 nodes'], medians[f'ours, {SEEDS + 1} nodes']
    return [('one more node', (many.seconds - one.seconds) / SEEDS * 1000, 10, ' ms'),
            ('disk a node', many.disk / (1 << 20), 2, ' MiB')]


COUNTS = (10, 100, 1000, 10000)
LEDGER = 1000


def allocate_ways(site):
    """Clusters of more and more nodes, beside none and beside many other clusters."""
    image = site.made('little', 16, 1)
    # So little memory that 10,000 nodes of it fit.
    site.entry('bench-tiny', image, 64, 'KiB')
    staged, _ = site.staged('bench-tiny')
    full = site.configured('full', temporary_directory='full')
    others = site.folder / 'full' / 'clusters'
    _fill_ledger(site, full, others, staged)

    def ours(count, conf, label):
        def clean():
            site.tool('vc-clean', 'bench', '--site-conf', conf)
        return Way(f'ours, {count:,} nodes{label}',
                   [BIN / 'vc-allocate', '--site-conf', conf, '--num-cpus', str(count - 1),
                    '--name', 'bench', '--key', f'{site.key}.pub'], staged, clean=clean)

    return [*(ours(count, site.conf, '') for count in COUNTS),
            *(ours(count, full, f' beside {LEDGER:,} clusters') for count in (10, 1000))]


def _fill_ledger(site, conf, others, staged):
    """Enter clusters of a frontend and four nodes, each with names, ports and MACs of its own."""
    if others.exists():
        return
    document = site.tool('vc-allocate', '--site-conf', conf, '--num-cpus', '4', '--name', 'c0',
                         '--key', f'{site.key}.pub', input=staged.read_bytes()).decode()
    key = (others / 'c0' / 'id_ed25519').read_bytes()
    for index in range(1, LEDGER):
        folder = others / f'c{index}'
        folder.mkdir(0o700)
        (folder / 'document.xml').write_text(_renumbered(document, index))
        (folder / 'id_ed25519').write_bytes(key)


def _renumbered(document, index):
    """The document of cluster c0 as that of another: nothing that is given once is in both."""
    text = document.replace('name="c0"', f'name="c{index}"')
    text = re.sub(r' port="(\d+)"', lambda found: f' port="{int(found[1]) + index}"', text)

    def mac(found):
        number = int(found[2].replace(':', ''), 16) + index * 8
        return f'mac="{found[1]}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"'

    return re.sub('mac="(..:..:..):(..:..:..)"', mac, text)


def allocate_goals(medians):
    """Time at 1,000, growth to 10,000, and memory there."""
    def seconds(name):
        return medians[f'ours, {name}'].seconds
    return [('1,000 nodes', seconds('1,000 nodes'), 2, ' s'),
            ('1,000 nodes beside 1,000 clusters', seconds('1,000 nodes beside 1,000 clusters'), 2,
             ' s'),
            ('10,000 nodes, of ten times 1,000',
             seconds('10,000 nodes') / seconds('1,000 nodes') / 10, 1, ''),
            ('10,000 nodes, of 1,000 times 10',
             seconds('10,000 nodes') / seconds('10 nodes') / 1000, 1, ''),
            ('memory at 10,000', medians['ours, 10,000 nodes'].memory / 1000, 250, ' MB')]


DEFINE_AND_START = ('one() { virsh -q define "$1"; virsh -q start --paused "$2"; }; '
                    'export -f one; ls "$1"/*.xml | xargs -P "$2" -I {} '
                    'bash -c \'f={}; n=${f##*/}; one "$f" "${n%.xml}"\'')
CREATE = 'ls "$1"/*.xml | xargs -P "$2" -I {} virsh -q create --paused {}'


def printed(site, document, folder):
    """The <domain>s of a document, a file each; the folder."""
    from lxml import etree
    folder.mkdir(exist_ok=True)
    # Once, so that their consoles' files are there, which libvirt's user may not make.
    site.tool('vc-boot', '--paused', '--ignore-dependencies', input=document.read_bytes())
    site.end('bench')
    output = etree.fromstring(site.tool('vc-boot', '--print', input=document.read_bytes()))
    for domain in output.iter('domain'):
        (folder / f'{domain.findtext("name")}.xml').write_bytes(etree.tostring(domain))
    return folder


def libvirt(site, label, script, folder, jobs, slow=False):
    """A way of libvirt's own, over the domains of a folder."""
    return Way(label, shell(script, folder, jobs), clean=lambda: site.end('bench'), slow=slow)


def start_ways(site):
    """32 domains by ours, by virsh, and by virt-install."""
    site.entry('bench-little', site.made('little', 16, 1), 64)
    document = site.injected('bench32', 'bench-little', 31)
    folder = printed(site, document, site.folder / 'bench32')
    install = ('for xml in "$2"/*.xml; do name=$(basename "$xml" .xml); '
               'virt-install -q --import --name "$name" --memory 64 --virt-type qemu '
               '--disk "path=$1/${name#bench32-}.qcow2,format=qcow2" '
               '--network none --graphics none '
               '--noautoconsole --osinfo detect=off,require=off --print-xml 1 >"$3"; '
               'virsh -q define "$3"; virsh -q start --paused "$name"; done')
    # virt-install makes a storage pool of the folder, which its libvirt must be able to read.
    disks = site.folder / 'disks'
    shutil.copytree(site.temp / 'clusters' / 'bench32', disks, dirs_exist_ok=True)
    site.run('chown', '-R', f'{USER}:', disks)
    return [Way('ours', [BIN / 'vc-boot', '--paused', '--ignore-dependencies'], document,
                clean=lambda: site.end('bench')),
            libvirt(site, 'virsh create, one by one', CREATE, folder, 1),
            libvirt(site, 'virsh create, two at a time', CREATE, folder, 2),
            libvirt(site, ALONE, DEFINE_AND_START, folder, 2),
            # It cannot leave a guest paused by itself.
            Way('virt-install --import --print-xml, virsh define and start, one by one',
                shell(install, disks, folder, site.folder / 'install.xml'),
                clean=lambda: site.end('bench'))]


def start_goals(medians):
    """Ours against libvirt alone."""
    ours = medians['ours'].seconds
    return [(f'of the time of {way}', ours / medians[way].seconds, most, '')
            for way, most in ((ALONE, 1), ('virsh create, two at a time', 1.1))]


NODES, MANY_NODES = 16, 128


def boot_ways(site):
    """A frontend and 16 compute nodes by ours, by hand, and what libvirt takes of it."""
    site.entry('bench-demo', site.demo())
    document = site.injected('bench17', 'bench-demo', NODES)
    _, image = site.staged('bench-demo')
    folder = printed(site, document, site.folder / 'bench17')
    clones, vc_out = site.folder / 'clones', site.folder / 'vc-out.xml'
    vc_out.write_bytes(site.tool('vc-out', input=document.read_bytes()))

    def template():
        """The domain and the disk that virt-clone clones."""
        clones.mkdir(exist_ok=True)
        site.run('cp', '--sparse=always', image, clones / 'template.img')
        site.run('chmod', '0600', clones / 'template.img')
        site.run('chown', '-R', f'{USER}:', clones)
        output = site.run('virt-install', '-q', '--import', '--name',
                        'bench-template', '--memory', '256', '--virt-type', 'qemu', '--network',
                        'none', '--graphics', 'none', '--noautoconsole', '--osinfo',
                        'detect=off,require=off', '--print-xml', '1', '--disk',
                        f'path={clones}/template.img,format=raw')
        site.virsh('define', '/dev/stdin', input=output)

    def forget():
        site.end('bench')
        shutil.rmtree(clones)

    clone = ('for index in $(seq 0 "$3"); do '
             'virt-clone -q --original bench-template --name "bench-clone-$index" '
             '--file "$1/$index.img"; '
             'guestfish --format=raw -a "$1/$index.img" -m /dev/sda1 upload "$2" /root/vc-out.xml; '
             'virsh -q start --paused "bench-clone-$index"; done')
    return [_up(site, 'bench-demo', NODES),
            libvirt(site, ALONE, DEFINE_AND_START, folder, 2),
            Way(BY_HAND, shell(clone, clones, vc_out, NODES), prepare=template, clean=forget,
                disk=lambda: allocated(clones), slow=True)]


def _up(site, entry, computes, slow=False):
    """pragma_boot, with all that it does."""
    return Way('ours', [BIN / 'pragma_boot', '--vcname', entry, '--num_cpus', str(computes),
                        '--name', 'bench-up', '--key', f'{site.key}.pub'],
               disk=lambda: allocated(site.temp / 'clusters' / 'bench-up'),
               clean=lambda: site.tool('vc-clean', 'bench-up'), slow=slow)


def boot_goals(medians):
    """Ours against the way by hand; and what of it is not libvirt's."""
    ours = medians['ours'].seconds
    return [('of the time by hand', ours / medians[BY_HAND].seconds, 0.05, ''),
            ('what is not libvirt\'s', ours - medians[ALONE].seconds, 2, ' s')]


def boot_many_ways(site):
    """Many compute nodes by ours, and what libvirt takes of it."""
    # So little memory that both clusters fit.
    site.entry('bench-many', site.demo(), 32)
    document = site.injected('bench129', 'bench-many', MANY_NODES)
    folder = printed(site, document, site.folder / 'bench129')
    return [_up(site, 'bench-many', MANY_NODES, slow=True),
            libvirt(site, ALONE, DEFINE_AND_START, folder, 2, slow=True)]


def boot_many_goals(medians):
    """What is not libvirt's."""
    return [('what is not libvirt\'s', medians['ours'].seconds - medians[ALONE].seconds, 5, ' s')]


def startup_ways(site):
    """Each filter on a document of one node that has all already, so that no engine is asked."""
    site.entry('bench-little', site.made('little', 16, 1), 64)
    document = site.injected('bench1', 'bench-little', 0)
    # A database of one entry, whatever other rows have put into the site's.
    single = site.images / 'bench-little'
    (single / 'vcdb.txt').write_text('bench-little,vc-in.xml\n')

    def tool(*command):
        return Way(' '.join(command), [BIN / command[0], *command[1:]], document)
    return [Way(IMPORT, [sys.executable, '-c', 'import lxml.etree']),
            Way('vc-list', [BIN / 'vc-list', '--base_path', single]),
            *(tool(*command.split()) for command in (
                'vc-parse', 'vc-stage', 'vc-allocate --num-cpus 0', 'vc-out', 'vc-inject',
                'vc-boot --print'))]


def startup_goals(medians):
    """Each filter against the import alone."""
    return [(f'{name}, of the import', sample.seconds / medians[IMPORT].seconds, 1.6, '')
            for name, sample in medians.items() if name != IMPORT]


ROWS = [
    Row('stage', 'stage the demo image, .img.gz of 1.5 GiB',
        stage_ways('bench-demo', Site.demo), stage_goals),
    Row('stage-zeros', 'stage an image of 4 GiB that is mostly zeros',
        stage_ways('bench-zeros', lambda site: site.made('zeros', 4096, 100)), stage_goals),
    Row('stage-formats', 'stage the demo image in other formats', format_ways, format_goals,
        'ours, .qcow2'),
    Row('fetch', 'fetch the demo image from a web server on this machine, verified and synced',
        lambda site: fetch.ways(site, Way, shell), fetch.goals),
    Row('stage-again', 'stage the demo image again, nothing changed', again_ways,
        lambda medians: [('whole process, through make', medians['ours, again'].seconds, 0.3,
                          ' s')],
        'ours, again'),
    Row('inject', "write a node's vc-out.xml into its disk, all checks on; libguestfs under TCG",
        inject_ways, inject_goals, 'ours, 1 node'),
    Row('seed', 'make the seed disks of nodes that have their disks', seed_ways, seed_goals,
        'ours, 1 nodes'),
    Row('capture', 'capture the disks of a frontend and a compute node of the demo image; '
        'libguestfs under TCG', capture_ways, capture_goals, 'ours, both images, gz'),
    Row('allocate', 'allocate a cluster', allocate_ways, allocate_goals, 'ours, 10 nodes'),
    Row('scale',
        f'one cluster over {scale.HOSTS} simulated hosts, and {scale.CLUSTERS:,} clusters there',
        lambda site: scale.ways(site, Way), scale.goals, scale.ALL),
    Row('start', 'define and start 32 nodes, paused', start_ways, start_goals),
    Row('startup', 'a small document through each filter', startup_ways, startup_goals, IMPORT, 5),
    Row('boot',
        f'a frontend and {NODES} compute nodes, image staged, until all are started, paused',
        boot_ways, boot_goals),
    Row('boot-many',
        f'a frontend and {MANY_NODES} compute nodes, image staged, until all are started, paused',
        boot_many_ways, boot_many_goals),
    Row('ganeti',
        f'{ganeti.COMPUTES + 1} instances of the demo image on three Ganeti nodes, '
        'until all are made',
        lambda site: ganeti.ways(site, Way), ganeti.goals),
    Row('ready', f'a frontend and {ready.COMPUTES} compute nodes of the demo image, until all are '
        'ready', lambda site: ready.ways(site, Way, shell), ready.goals, ready.BOOTED),
    Row('hpc', f'a frontend and {hpc.COMPUTES} compute nodes of the HPC image, image staged',
        lambda site: hpc.ways(site, Way, shell), hpc.goals, hpc.FIRST_JOB),
    Row('grow', f'one node joins a cluster of {hpc.COMPUTES} compute nodes of the HPC image',
        lambda site: hpc.growing_ways(site, Way), hpc.growing_goals, hpc.ONE_MORE),
]
