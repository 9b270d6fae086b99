"""The row for Ganeti: instances of the demo image on a real cluster of three nodes."""
import shutil

from lxml import etree

from lab import ROOT
from lab.ganeti_lab import MASTER_IP, Lab, LabSite

COMPUTES = 5
NAME = 'bench-wide'
LOOP = 'gnt-instance add, one by one'


def ways(site, Way):
    """Ours, which makes one request for all, and a loop of Ganeti's own command on its master."""
    folder = site.folder / 'lab'
    folder.mkdir(mode=0o755)
    lab = site.held(Lab(3, folder))
    there = LabSite(lab, MASTER_IP)
    shutil.copy(ROOT / 'images/debian/debian.img.gz', there.base)
    entry = there.base / 'vc-in.xml'
    shutil.copy(ROOT / 'images/debian/vc-in.xml', entry)
    staged = there.run('vc-stage', input=there.run('vc-parse', entry).stdout).stdout
    document, script = folder / 'allocated.xml', folder / 'add'

    def reserve():
        output = there.run('vc-allocate', '--num-cpus', COMPUTES, '--name', NAME,
                           input=staged).stdout
        document.write_bytes(output)
        script.write_text('set -e\n'
                          + ''.join(map(added, etree.fromstring(output).iterfind('cluster/node'))))

    def added(node):
        """The command for one node, by hand."""
        networks = ' '.join(f"--net {index}:mode=bridged,link={interface.get('bridge')},"
                            f"mac={interface.get('mac')}"
                            for index, interface in enumerate(node.iterfind('interface')))
        name, document = node.get('name'), f'{there.temp}/clusters/{NAME}/document.xml'
        return ('gnt-instance add -t sharedfile --disk 0:size=1536m '
                f'-B vcpus=1,minmem=256,maxmem=256 {networks} '
                '-H kvm:kernel_path=,kvm_path=/usr/bin/qemu-system-x86_64 --no-start '
                '--no-name-check --no-ip-check --no-conflicts-check '
                f'-o pragma -O document={document},node={name} '
                f'--tags pragma_boot:cluster:{NAME} {NAME}-{name}\n')

    def clean():
        there.run('vc-clean', NAME)

    def remove():
        """What Ganeti's own command made has no mark of the ledger: vc-clean leaves it alone."""
        list_all = f"gnt-instance list --no-headers -o name | grep '^{NAME}-'"
        site.run(*lab.master.command(
            ['sh', '-c', f'{list_all} | xargs -n 1 gnt-instance remove --force']))
        clean()
    ours = ['ip', 'netns', 'exec', lab.netns, 'env', f'PRAGMA_SITE_CONF={there.conf}',
            ROOT / 'bin/vc-inject']
    return [Way('ours', ours, document, reserve, clean),
            Way(LOOP, lab.master.command(['sh', script]), None, reserve, remove)]


def goals(medians):
    """Ours against the loop."""
    return [('of the time of the loop', medians['ours'].seconds / medians[LOOP].seconds, 1, '')]
