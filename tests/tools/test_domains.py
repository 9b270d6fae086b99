"""Domains that others wrote: each row of domains.tsv, and more of its kinds, has its right outcome.

A row's fragment is put into the example vc-in.xml, into both roles. What is refused is refused by
vc-parse in one line, which vc-check repeats; what is not is looked at in the domain of a node.
"""
import os
import re
from pathlib import Path

import pytest
from lxml import etree

from lab import DATA
from pragma_boot.document import difference
from pragma_boot.engine import session

ROWS = {row[0]: row[1:3] for row in (line.split('\t') for line in
                                     (DATA / 'domains.tsv').read_text().splitlines()[1:])}

SCHEMA = Path('/usr/share/libvirt/schemas/domaincommon.rng')

BUS, MACHINE = 'devices/disk/target/@bus', 'os/type/@machine'
SCSI = "devices/controller[@type='scsi']"
AGENT = "devices/channel[@type='unix']/target[@type='virtio']/@name"
CARD = 'virtio-net-pci'

MORE = {
    'i686': ('os', "<os><type arch='i686'>hvm</type></os>"),
    'isapc': ('os', "<os><type machine='isapc'>hvm</type></os>"),
    'xen': ('os', "<os><type machine='xenfv'>hvm</type></os>"),
    'old-q35': ('os', "<os><type machine='pc-q35-rhel7.6.0'>hvm</type></os>"),
    'old-pc': ('os', "<os><type arch='x86_64' machine='pc-1.3'>hvm</type></os>"),
    'exe': ('os', '<os><type>exe</type><init>/sbin/init</init></os>'),
    'ovmf-as-rom': ('os', '<os><type>hvm</type><loader>/usr/share/ovmf/OVMF.fd</loader></os>'),
    'nvram': ('os', '<os><type>hvm</type><nvram>/var/lib/x_VARS.fd</nvram></os>'),
    'secure-boot': ('os', "<os firmware='efi'><type>hvm</type><loader secure='yes'/></os>"),
    'secure-loader': ('os', ("<os firmware='efi'><type machine='q35'>hvm</type>"
                             "<loader secure='yes'/></os>")),
    'secure-feature': ('os', ("<os firmware='efi'><type machine='q35'>hvm</type><firmware><feature "
                              "name='secure-boot' enabled='yes'/><feature name='enrolled-keys' "
                              "enabled='no'/></firmware></os>")),
    'secure-off': ('os', ("<os firmware='efi'><type machine='q35'>hvm</type><firmware><feature "
                          "name='secure-boot' enabled='no'/></firmware></os>")),
    'feature-unknown': ('os', ("<os firmware='efi'><type>hvm</type><firmware><feature "
                               "name='other' enabled='yes'/></firmware></os>")),
    'firmware-unknown': ('os', "<os firmware='coreboot'><type>hvm</type></os>"),
    'firmware-of-bios': ('os', ("<os><type>hvm</type><firmware><feature name='secure-boot' "
                                "enabled='yes'/></firmware></os>")),
    'efi-on-pc': ('os', "<os firmware='efi'><type machine='pc'>hvm</type></os>"),
    'efi-of-fedora': ('os', ("<os><type machine='q35'>hvm</type><loader readonly='yes' "
                             "secure='yes' type='pflash'>/usr/share/edk2/x64/OVMF_CODE.secboot.fd"
                             "</loader><nvram template='/x/OVMF_VARS.fd'>/y/a_VARS.fd</nvram>"
                             "</os>")),
    'flash-other': ('os', ("<os><type>hvm</type><loader type='pflash' readonly='yes'>/etc/shadow"
                           "</loader></os>")),
    'flash-writable': ('os', ("<os><type>hvm</type><loader type='pflash' readonly='no'>"
                              "/usr/share/ovmf/OVMF.fd</loader></os>")),
    'efi-variables': ('os', ("<os firmware='efi'><type>hvm</type><nvram>/etc/cron.d/x</nvram>"
                             "</os>")),
    'no-graphics': ('no graphics', ''),
    'graphics-spice': ('no graphics', ("<graphics type='spice' autoport='yes' listen='0.0.0.0'>"
                                       "<listen type='address' address='0.0.0.0'/></graphics>")),
    'graphics-vnc': ('no graphics', ("<graphics type='vnc' port='5901' listen='0.0.0.0' "
                                     "passwd='x'/>")),
    'graphics-two': ('devices', "<graphics type='spice'/>"),
    'graphics-socket': ('no graphics', "<graphics type='vnc'><listen type='socket'/></graphics>"),
    'graphics-socket-of-the-host': ('no graphics', ("<graphics type='vnc'><listen type='socket' "
                                                    "socket='/etc/x'/></graphics>")),
    'graphics-sdl': ('no graphics', "<graphics type='sdl' display=':0'/>"),
    'video-qxl': ('devices', ("<video><model type='qxl' ram='65536' vram='65536' heads='1'/>"
                              "</video><video><model type='cirrus'/></video>")),
    'video-cirrus': ('devices', "<video><model type='cirrus'/></video>"),
    'video-none': ('devices', "<video><model type='none'/></video>"),
    'video-vmvga': ('devices', "<video><model type='vmvga'/></video>"),
    'bios-auto': ('os', "<os firmware='bios'><type>hvm</type></os>"),
    'vda-no-bus': ('disk', "<target dev='vda'/>"),
    'xvda-no-bus': ('disk', "<target dev='xvda'/>"),
    'sd-card': ('disk', "<target dev='sda' bus='sd'/>"),
    'q35-hda': ('disk on q35', "<target dev='hda'/>"),
    'q35-sata': ('disk on q35', "<target dev='sda' bus='sata'/>"),
    'buslogic': ('devices, disk bus scsi', "<controller type='scsi' model='buslogic'/>"),
    'scsi-auto': ('devices, disk bus scsi', "<controller type='scsi' index='0' model='auto'/>"),
    'scsi-virtio': ('devices, disk bus scsi', "<controller type='scsi' model='virtio-scsi'/>"),
    'scsi-other': ('devices, disk bus scsi',
                   "<controller type='scsi' index='1' model='virtio-scsi'/>"),
    'scsi-unused': ('devices', "<controller type='scsi' index='0' model='ibmvscsi'/>"),
    'disk-model-on-ide': ('disk element', "<disk model='virtio'>"),
    'wwn-on-ide': ('in disk', '<wwn>5000c50015ea71aa</wwn>'),
    'wwn-bad': ('in disk', '<wwn>zz</wwn>'),
    'serial-bad': ('in disk', '<serial>a,file=/etc/shadow</serial>'),
    'sectors': ('in disk', "<blockio logical_block_size='512' physical_block_size='4096'/>"),
    'large-sectors': ('in disk', "<blockio logical_block_size='4096'/>"),
    'vendor-on-ide': ('in disk', '<vendor>SEAGATE</vendor>'),
    'empty-floppy': ('devices', "<disk type='file' device='floppy'><target dev='fda'/></disk>"),
    'cdrom-first': ('devices first', ("<disk type='block' device='cdrom'><source startupPolicy="
                    "'optional'/><target dev='hdc' bus='ide'/><readonly/></disk>")),
    'cdrom': ('devices', ("<disk type='file' device='cdrom'><source file='/iso/x.iso'/>"
              "<target dev='hdc' bus='ide'/></disk>")),
    'pcnet': ('interface', "<model type='pcnet'/>"),
    'model-empty': ('interface', '<model/>'),
    'link-down': ('interface', "<model type='virtio'/><link state='down'/>"),
    'disk-slice': ('in disk', ("<source file='calit2-119-222.img.gz'><slices><slice type='storage' "
                    "offset='512' size='512'/></slices></source>")),
    'disk-encryption': ('in disk', "<encryption format='luks'/>"),
    'disk-readonly': ('in disk', '<readonly/>'), 'disk-transient': ('in disk', '<transient/>'),
    'cdrom-readonly': ('devices', ("<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/>"
                                   "<readonly/></disk>")),
    'sev': ('domain', "<launchSecurity type='sev'><policy>0x1</policy></launchSecurity>"),
    'net-transitional': ('interface', "<model type='virtio-transitional'/>"),
    'e1000e': ('interface', "<model type='e1000e'/>"),
    **{f'interface-{kind}': ('interface', f"<interface type='{kind}'>{source}")
       for kind, source in (
        ('network', "<source network='default' portgroup='a'/>"), ('user', ''), ('ethernet', ''),
        ('bridge', "<source bridge='br0;id'/>"),
        ('hostdev', "<source><address type='pci'/></source>"),
        ('vhostuser', "<source type='unix' path='/run/x' mode='server'/>"),
        ('udp', "<source address='10.0.0.1' port='1'/>"), ('newest', "<source newest='1'/>"),
        ('mcast', "<source address='230.0.0.1' port='5'/>"))},
    'hostdev-no-model': ('interface', "<interface type='hostdev'>(no <model>)"),
    'clock-variable-utc': ('domain', "<clock offset='variable' adjustment='-5'/>"),
    'clock-timezone': ('domain', "<clock offset='timezone' timezone='Europe/Paris'/>"),
    'clock-absolute': ('domain', "<clock offset='absolute' start='0'/>"),
    'memory-bytes': ('domain', "<memory unit='BYTES'>67108864</memory>"),
    'memory-mb': ('domain', "<memory unit='mB'>64</memory>"),
    'memory-unit-unknown': ('domain', "<memory unit='MiBs'>64</memory>"),
    'memory-empty': ('domain', '<memory/>'),
    'memory-negative': ('domain', '<memory>-1</memory>'),
    'memory-fraction': ('domain', "<memory unit='GiB'>0.5</memory>"),
    'memory-2-63': ('domain', "<memory unit='b'>9223372036854775808</memory>"),
    'memory-above-1-pib': ('domain', "<memory unit='TiB'>1025</memory>"),
    'memory-30-digits': ('domain', f'<memory>{"9" * 30}</memory>'),
    'no-cpus': ('domain', '<vcpu>0</vcpu>'),
    'agent-old-path': ('devices', ("<channel type='unix'><source mode='bind' "
                                   "path='/var/lib/libvirt/"
                                   "qemu/x.agent'/><target type='virtio' "
                                   "name='org.qemu.guest_agent.0'/></channel>")),
    'agent-anywhere': ('devices', ("<channel type='unix'><source mode='bind' path='/etc/x'/>"
                       "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>")),
    'agent-climbs': ('devices', ("<channel type='unix'><source mode='bind' path='/var/lib/libvirt/"
                     "qemu/../../../x'/><target type='virtio' name='a'/></channel>")),
    'spice': ('devices', ("<channel type='spicevmc'><target type='virtio' "
                          "name='com.redhat.spice.0'/>"
              '</channel>')),
    'webdav': ('devices', ("<channel type='spiceport'><source channel='org.spice-space.webdav.0'/>"
               "<target type='virtio' name='org.spice-space.webdav.0'/></channel>")),
    'smartcard': ('devices', "<smartcard mode='passthrough' type='spicevmc'/>"),
    'smartcard-host': ('devices', "<smartcard mode='host'/>"),
    'redirection-tcp': ('devices', ("<redirdev bus='usb' type='tcp'><source mode='connect' "
                                    "host='x' "
                        "service='4000'/></redirdev>")),
    'type-xen': ('type', 'xen'),
    'type-none': ('type', 'no such engine'),
    'typo-in-domain': ('domain', '<memmory>1</memmory>'),
    'other-namespace': ('domain', "<x:os xmlns:x='urn:x'><x:kernel>/etc/shadow</x:kernel></x:os>"),
    'metadata': ('domain', "<metadata><anything xmlns='urn:x'/></metadata>"),
    'two-memories': ('domain more', '<memory>1024</memory>'),
    'vc-elements': ('vc', "<vc name='x' engine='y'>"),
    'network': ('networks', '<ipaddress>10.1.0.0</ipaddress><netmask>255.255.0.0</netmask>'),
    'broadcast': ('networks', '<ipaddress>10.1.255.255</ipaddress><netmask>255.255.0.0</netmask>'),
    'slash-31': ('networks', '<ipaddress>10.1.1.1</ipaddress><netmask>255.255.255.254</netmask>'),
    'wildcard-mask': ('networks', '<ipaddress>10.1.1.1</ipaddress><netmask>0.0.255.255</netmask>'),
    'user-mode-inside': ('networks', '<ipaddress>10.0.0.1</ipaddress><netmask>255.0.0.0</netmask>'),
    'beside-user-mode': ('networks',
                         '<ipaddress>10.0.3.1</ipaddress><netmask>255.255.255.0</netmask>'),
}

MACHINES, CARDS = 'machine may be q35 or pc', 'type may be virtio or'
BUSES = 'bus may be ide or sata or scsi or virtio'

REFUSED = {
    'nvram': 'only UEFI has variables', 'secure-boot': 'needs the machine q35',
    'feature-unknown': 'name may be secure-boot or', 'firmware-unknown': 'firmware may be efi',
    'flash-other': 'no firmware that nodes have', 'flash-writable': "add readonly='yes'",
    'graphics-socket-of-the-host': 'opens a socket', 'video-vmvga': 'type may be vga or',
    'aarch64': 'arch may be x86_64', 'ppc64': 'arch may be x86_64', 'i686': 'arch may be x86_64',
    'microvm': MACHINES, 'isapc': MACHINES, 'xen': MACHINES,
    'os-linux': "<type> 'linux' is refused: it may be hvm", 'exe': 'it may be hvm',
    'usb-disk': BUSES, 'xvda-no-bus': BUSES, 'sd-card': BUSES,
    'q35-ide': 'q35 has no IDE', 'q35-hda': 'q35 has no IDE',
    'buslogic': 'model may be lsilogic or', 'disk-model-on-ide': 'needs bus virtio, not ide',
    'wwn-bad': 'not valid for libvirt', 'serial-bad': 'not valid for libvirt',
    'large-sectors': 'logical_block_size may be 512', 'vendor-on-ide': 'needs bus scsi, not ide',
    'cdrom': 'has a medium', 'vmxnet3': CARDS, 'pcnet': CARDS,
    **dict.fromkeys(('link-down', 'disk-slice', 'disk-encryption', 'disk-readonly',
                     'disk-transient', 'sev'), 'a guest notices and no node has'),
    'hostdev-no-model': 'give it a <model type=',
    'clock-timezone': 'offset may be utc or localtime',
    'clock-absolute': 'offset may be utc or localtime',
    'memory-0': 'not between 1 byte and 1 PiB', 'no-memory': '<memory> is missing',
    'memory-unit-unknown': 'unit may be', 'memory-empty': 'not a whole number',
    'memory-negative': 'not a whole number', 'memory-fraction': 'not a whole number',
    'memory-2-63': 'not between', 'memory-above-1-pib': 'not between',
    'memory-30-digits': 'not between',
    'no-cpus': 'not a number of CPUs',
    'agent-anywhere': 'reaches a file', 'agent-climbs': 'reaches a file',
    'smartcard-host': 'takes a device', 'redirection-tcp': 'takes a device',
    'type-xen': 'type may be kvm or', 'type-none': 'type may be kvm or',
    'two-memories': 'not valid for libvirt',
    'netmask': "'255.0.255.0' is not a netmask", 'network': "is no host's address",
    'broadcast': "is no host's address", 'slash-31': "is no host's address",
    'wildcard-mask': 'is no private network',
    'user-mode-overlap': 'overlaps the public network 10.0.2.0/24 of user mode',
    'user-mode-inside': 'overlaps the public network',
}
"""Words of the line of vc-parse, by row."""

BIOS = {MACHINE: 'pc', 'count(os/loader | os/nvram | os/@firmware | os/firmware)': '0'}
FEATURE = "os/firmware/feature[@name='%s']/@enabled"
SECURE, KEYS = FEATURE % 'secure-boot', FEATURE % 'enrolled-keys'
UEFI = {'os/@firmware': 'efi', 'count(os/loader | os/nvram)': '0', SECURE: 'no', KEYS: 'no'}
VNC = {'devices/graphics/@type': 'vnc', 'devices/graphics/listen/@type': 'socket',
       'count(devices/graphics)': '1', 'count(devices/graphics/@*)': '1',
       'count(devices/graphics/listen/@*)': '1'}
ADAPTER = 'devices/video/model/@type'

CARRIED = {
    'efi-auto': {**UEFI, MACHINE: 'q35'}, 'efi-loader': {**UEFI, MACHINE: 'q35'},
    'ovmf-as-rom': {**UEFI, MACHINE: 'pc'}, 'efi-on-pc': {**UEFI, MACHINE: 'pc'},
    'efi-variables': UEFI, 'secure-off': UEFI, 'firmware-of-bios': BIOS,
    **{name: {**UEFI, SECURE: 'yes', KEYS: 'yes', MACHINE: 'q35'}
       for name in ('secure-loader', 'efi-of-fedora')},
    'secure-feature': {**UEFI, SECURE: 'yes', KEYS: 'no'},
    'no-graphics': {'count(devices/graphics)': '0', ADAPTER: 'vga'},
    **{name: {**VNC, ADAPTER: 'vga'}
       for name in ('graphics-spice', 'graphics-vnc', 'graphics-two', 'graphics-socket')},
    'graphics-sdl': {'count(devices/graphics)': '0'},
    'video-qxl': {ADAPTER: 'vga', 'count(devices/video)': '1'},
    'video-cirrus': {ADAPTER: 'cirrus'}, 'video-none': {ADAPTER: 'none'},
    'seabios-loader': {MACHINE: 'q35', 'count(os/loader)': '0'}, 'bios-auto': BIOS,
    'rhel6-machine': {MACHINE: 'pc'}, 'old-q35': {MACHINE: 'q35'}, 'old-pc': {MACHINE: 'pc'},
    'hda-no-bus': {BUS: 'ide'}, 'vda-no-bus': {BUS: 'virtio'}, 'q35-sata': {BUS: 'sata'},
    # Without a model or without the element libvirt chooses.
    'sda-no-bus': {BUS: 'scsi', f'count({SCSI})': '0'},
    'scsi-no-controller': {BUS: 'scsi', f'count({SCSI})': '0'},
    'scsi-other': {BUS: 'scsi', f'count({SCSI})': '0'},
    'scsi-auto': {f'count({SCSI}[not(@model)])': '1'},
    'scsi-unused': {BUS: 'ide', f'count({SCSI})': '0'},
    'lsi': {f'{SCSI}/@model': 'lsilogic'}, 'scsi-virtio': {f'{SCSI}/@model': 'virtio-scsi'},
    'virtio-transitional': {'devices/disk/@model': 'virtio-transitional', BUS: 'virtio'},
    'disk-serial': {'devices/disk/serial': 'DATA1'},
    'wwn-on-ide': {'devices/disk/wwn': '5000c50015ea71aa'},
    'sectors': {'devices/disk/blockio/@physical_block_size': '4096'},
    'cdrom-readonly': {'count(devices/disk)': '1'}, 'empty-cdrom': {'count(devices/disk)': '1'},
    'empty-floppy': {'count(devices/disk)': '1'},
    'cdrom-first': {'count(devices/disk)': '1', BUS: 'ide'},
    'no-model': {'card': 'rtl8139'}, 'model-empty': {'card': 'rtl8139'},
    'net-transitional': {'card': f'{CARD}-transitional'},
    'e1000e': {'card': 'e1000e'}, 'macvtap': {'card': CARD},
    **{name: {'card': CARD} for name in MORE if name.startswith('interface-')},
    'clock-variable': {'clock/@offset': 'localtime'},
    'clock-variable-utc': {'clock/@offset': 'utc'},
    'memory-unit': {'memory': '65536'}, 'memory-bytes': {'memory': '65536'},
    'memory-mb': {'memory': '62500'},
    'guest-agent': {AGENT: 'org.qemu.guest_agent.0'},
    'agent-old-path': {AGENT: 'org.qemu.guest_agent.0'},
    **{name: {'count(devices/channel | devices/redirdev | devices/smartcard)': '0'}
       for name in ('spice', 'webdav', 'smartcard', 'spice-redirection')},
    'hwrng': {'devices/rng/backend': '/dev/urandom'},
    'newer-libvirt': {'count(features/hyperv)': '0'}, 'metadata': {'count(metadata/*)': '1'},
    'typo': {}, 'typo-in-domain': {}, 'other-namespace': {}, 'vc-attribute': {}, 'vc-elements': {},
    'beside-user-mode': {},
}
"""By row, XPaths of a node's <domain> with their values; 'card' is the first interface's device."""

DROPPED = {'empty-cdrom': "devices/disk[@device='cdrom']",
           'empty-floppy': "devices/disk[@device='floppy']",
           'spice': "devices/channel[@type='spicevmc']", 'spice-redirection': 'devices/redirdev',
           'hwrng': 'devices/rng', 'seabios-loader': 'os/loader', 'efi-variables': 'os/nvram',
           'efi-loader': 'os/loader', 'graphics-vnc': 'devices/graphics@passwd',
           'graphics-sdl': "devices/graphics[@type='sdl']",
           'video-qxl': 'devices/video/model@ram',
           'newer-libvirt': 'features/hyperv'}
"""Rows of which vc-parse -v names what is dropped."""

WARNED = {'newer-libvirt': '<xmm_input>', 'typo': '<controler>', 'typo-in-domain': '<memmory>',
          'other-namespace': '<os>'}
"""Rows with an element that libvirt does not know."""


def test_every_row_has_an_outcome():
    assert not REFUSED.keys() & CARRIED.keys()
    assert REFUSED.keys() | CARRIED.keys() == ROWS.keys() | MORE.keys()


def put(text, where, fragment):
    """The text of a vc-in.xml with a fragment in it."""
    if where == 'vc':
        return text.replace(re.match('<vc[^>]*>', text)[0], fragment)
    if where == 'networks':
        for tag in re.findall('<([a-z]+)>', fragment):
            text = re.sub(f'<{tag}>.*</{tag}>', re.search(f'<{tag}>.*</{tag}>', fragment)[0], text)
        return text
    if 'bus scsi' in where:
        text = text.replace("<target dev='hda' bus='ide'/>", "<target dev='sda' bus='scsi'/>")
    if 'on q35' in where or 'q35' in fragment:
        text = text.replace('<type>hvm', "<type machine='q35'>hvm")
        if where.startswith('disk element'):
            text = text.replace("<target dev='hda' bus='ide'/>", "<target dev='vda' bus='virtio'/>")
        elif not where.startswith('disk'):
            text = text.replace("<target dev='hda' bus='ide'/>", "<target dev='sda' bus='sata'/>")
    if where == 'no graphics':
        return text.replace("<graphics type='vnc' port='-1'/>", fragment)
    model = r"<model type='virtio' */>"
    if where == 'os':
        return re.sub('<os>.*?</os>', fragment, text, flags=re.S)
    if where.startswith('disk element'):
        return text.replace("<disk type='file' device='disk'>", fragment.replace(
            '<disk model', "<disk type='file' device='disk' model"))
    if where.startswith('disk'):
        return re.sub('<target dev[^>]*>', fragment, text)
    if where == 'in disk':
        return text.replace('</disk>', f'{fragment}</disk>')
    if where == 'devices first':
        return text.replace('<devices>', f'<devices>{fragment}')
    if where.startswith('devices'):
        return text.replace('</devices>', f'{fragment}\n</devices>')
    if where == 'features':
        return text.replace('</features>', re.sub('</?features>', '', fragment) + '</features>')
    if where == 'type':
        return text.replace("<domain type='kvm'>", f"<domain type='{fragment}'>")
    if where == 'interface':
        if '(no <model>)' in fragment:
            text, fragment = re.sub(model, '', text), fragment.replace('(no <model>)', '')
        if fragment.startswith('<model'):
            return re.sub(model, fragment, text)
        if fragment:
            return re.sub(r"<interface type='bridge'>\s*<source bridge='[^']*'/>", fragment, text)
        return text
    if fragment.startswith('(no <memory>'):
        return re.sub('<memory>.*?</memory>', "<cpu><numa><cell id='0' cpus='0' memory='65536'/>"
                      '</numa></cpu>', text)
    for tag in ('memory', 'vcpu'):
        if fragment.startswith(f'<{tag}') and where == 'domain' and fragment[len(tag) + 1] in ' >/':
            return re.sub(f'<{tag}>.*?</{tag}>', fragment, text)
    return text.replace('</domain>', f'{fragment}\n</domain>')


@pytest.fixture
def place(site):
    """Put a row into the site's vc-in.xml."""
    def put_in(name, fragment=None):
        """Put in a row, or a fragment where the first argument says."""
        where, fragment = (name, fragment) if fragment else {**ROWS, **MORE}[name]
        text = put((DATA / 'vc-in.xml').read_text(), where, fragment)
        site.vc_in.write_text(re.sub("<wait type='clock' value='300'/>", '', text))
        etree.parse(site.vc_in)
        return site
    return put_in


@pytest.mark.parametrize('name', sorted(REFUSED))
def test_refused_in_one_line(place, name):
    site = place(name)
    line = site.fails('vc-parse', site.vc_in)
    assert REFUSED[name] in line and re.search(r'line \d+: ', line), line
    told = site.run('vc-check', site.vc_in, status=1).stdout.decode()
    reason = re.search(r'line \d+: .*', line)[0]
    assert [finding for finding in told.splitlines()
            if finding.startswith('FAIL') and reason in finding], told


def test_memory_beyond_the_host(site):
    """Of the compute nodes alone; vc-check repeats it. A host that does not answer may have it."""
    text = (DATA / 'vc-in.xml').read_text()
    begin, end = text.split('<compute>')
    end = re.sub('<memory>.*?</memory>', "<memory unit='TiB'>900</memory>", end)
    site.vc_in.write_text(f'{begin}<compute>{end}')
    line = site.fails('vc-parse', site.vc_in)
    assert re.search(r'line \d+: <memory> of the compute is 943718400 MiB, and the largest host of '
                     r'the site has \d+ MiB$', line), line
    reason = line[line.index('line '):]
    checked = site.run('vc-check', site.vc_in, status=1).stdout.decode()
    assert f'FAIL  {reason}: change it' in checked
    conf = site.conf.read_text()
    site.conf.write_text(re.sub('(?m)^hosts = .*', '', conf)
                         + 'hosts = qemu+unix:///system?socket=/nowhere\n')
    site.run('vc-parse', site.vc_in)


@pytest.mark.parametrize('name', sorted(CARRIED))
def test_carried_over(place, name):
    site = place(name)
    done = site.run('vc-parse', '-v', site.vc_in)
    said = done.stderr.decode()
    if name in DROPPED:
        assert f"not carried over from the frontend's <domain>: {DROPPED[name]}" in said
    document = done.stdout
    for tool, *arguments in (('vc-stage',), ('vc-allocate', '--num-cpus', 0, '--key', site.key),
                             ('vc-inject',)):
        document = site.run(tool, *arguments, input=document).stdout
    domain = etree.fromstring(site.run('vc-boot', '--print', input=document).stdout)
    for path, value in CARRIED[name].items():
        assert (card(domain) if path == 'card' else domain.xpath(f'string({path})')) == value, path
    # Nothing of the author's but what is permitted reaches the host.
    paths = {value for element in domain.iter(etree.Element)
             for value in [*element.values(), element.text or ''] if value.startswith('/')}
    assert all(path.startswith((f'{site.temp}/', session.agent_socket('')))
               or path == '/dev/urandom' for path in paths), paths
    told = site.run('vc-check', site.vc_in, status=1).stdout.decode()
    assert not [line for line in told.splitlines() if line.startswith('FAIL')
                and not re.search('guest part|no kernel', line)], told


def card(domain):
    """The first -device of QEMU's command line: libvirt's own interfaces are not in this site."""
    return next(value for value in domain.xpath('//*[local-name()="arg"]/@value')
                if ',netdev=' in value).split(',')[0]


@pytest.mark.parametrize('name', sorted(WARNED))
def test_what_libvirt_does_not_know_is_named_with_its_own_line(place, name):
    site = place(name)
    element = WARNED[name]
    lines = site.vc_in.read_text().splitlines()
    here = [count for count, line in enumerate(lines, 1)
            if re.search(f'<(x:)?{element[1:-1]}[^<]*<?', line) and
            (name != 'other-namespace' or '<x:' in line)]
    told = site.run('vc-parse', site.vc_in).stderr.decode().splitlines()
    if name == 'newer-libvirt' and element[1:-1] in SCHEMA.read_text():
        # libvirt 11 knows it.
        assert told == []
        return
    assert told == [f"vc-parse: '{site.vc_in}': line {line}: {element} of the {role} is dropped: "
                    'libvirt does not know it'
                    for line, role in zip(here, ('frontend', 'compute'), strict=True)]
    checked = site.run('vc-check', site.vc_in, status=1).stdout.decode()
    assert f'line {here[0]}: {element}' in checked


NOTICED = {
    'cpu-model': ('domain', "<cpu mode='custom' match='exact'><model>Nehalem</model></cpu>"),
    'cpu-vendor': ('domain', "<cpu><vendor>AMD</vendor></cpu>"),
    'cpu-topology': ('domain', ("<cpu mode='host-model'><topology sockets='2' cores='1' "
                               "threads='1'/></cpu>")),
    'cpu-feature': ('domain', "<cpu><feature policy='disable' name='vmx'/></cpu>"),
    'cpu-numa': ('domain', ("<cpu mode='host-model'><numa><cell id='0' cpus='0' memory='524288'/>"
                           "</numa></cpu>")),
    'vcpu-current': ('domain', "<vcpu current='1'>4</vcpu>"),
    'vcpus': ('domain', "<vcpus><vcpu id='1' enabled='no' hotpluggable='yes'/></vcpus>"),
    'maximum-memory': ('domain', "<maxMemory slots='2'>8388608</maxMemory>"),
    'memory-device': ('devices', ("<memory model='dimm'><target><size>524288</size><node>0</node>"
                                 "</target></memory>")),
    'clock-adjusted': ('domain', "<clock offset='utc' adjustment='3600'/>"),
    'mtu': ('interface', "<model type='virtio'/><mtu size='9000'/>"),
    'vlan': ('interface', "<model type='virtio'/><vlan><tag id='42'/></vlan>"),
    'watchdog': ('devices', "<watchdog model='i6300esb' action='reset'/>"),
    'iommu': ('devices', "<iommu model='intel'/>"),
    'tpm': ('devices', "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"),
    'panic': ('devices', "<panic model='isa'/>"),
    'geometry': ('in disk', "<geometry cyls='16383' heads='16' secs='63' trans='lba'/>"),
    'smbios': ('os', "<os><type>hvm</type><smbios mode='host'/></os>"),
    'sysinfo': ('domain', ("<sysinfo type='smbios'><system><entry name='serial'>1</entry></system>"
                          "</sysinfo>")),
    'other-channel': ('devices', ("<channel type='pty'><target type='virtio' name='org.x.0'/>"
                                 "</channel>")),
    'misspelt': ('in disk', "<serial lenght='3'>DATA1</serial>"),
}
"""What a guest may notice, and a misspelt attribute: dropped with a warning."""

ORDINARY = {
    'cpu-host': ('domain', "<cpu mode='host-passthrough' check='none' migratable='on'/>"),
    'vcpu-all': ('domain', "<vcpu placement='static' current='2'>2</vcpu>"),
    'clock-reset': ('domain', ("<clock offset='utc' adjustment='reset'><timer name='hpet' "
                              "present='no'/></clock>")),
    'watchdog-of-q35': ('devices', "<watchdog model='itco' action='reset'/>"),
    'smbios-emulated': ('os', "<os><type>hvm</type><smbios mode='emulate'/></os>"),
}
"""Neighbours of NOTICED that virt-install writes, or that change nothing: no warning."""


@pytest.mark.parametrize('name', sorted(NOTICED))
def test_what_a_guest_may_notice_is_named_when_it_is_dropped(place, name):
    where, fragment = NOTICED[name]
    site = place(where, fragment)
    warnings = site.run('vc-parse', site.vc_in).stderr.decode().splitlines()
    assert len(warnings) == 2, warnings
    for line, role in zip(warnings, ('frontend', 'compute'), strict=True):
        assert re.search(rf'line \d+: <[^>]*> of the {role} is dropped: \w', line), line
        number = int(re.search(r'line (\d+): <(\w+)', line)[1])
        assert f"<{re.search(': <([a-zA-Z]+)', line)[1]}" in (
            site.vc_in.read_text().splitlines()[number - 1]), line
    checked = site.run('vc-check', site.vc_in, status=1).stdout.decode()
    message = re.search(r'line \d+: .*?>', warnings[0])[0]
    assert message in checked and not re.search(f'FAIL.*{re.escape(message)}', checked), checked


@pytest.mark.parametrize('name', sorted(ORDINARY))
def test_ordinary_parts_cause_no_warning(place, name):
    site = place(*ORDINARY[name])
    assert site.run('vc-parse', site.vc_in).stderr == b''


def test_every_difference_is_tried():
    document = etree.fromstring('<vc/>')
    for where, fragment in NOTICED.values():
        text = put((DATA / 'vc-in.xml').read_text(), where, fragment)
        document.append(etree.fromstring(text.encode()).find('frontend/domain'))
    for where, _ in difference.DIFFERENT:
        assert any(domain.xpath(where) for domain in document), where


@pytest.mark.parametrize('name, tag', [('serial-bad', '<serial>'), ('wwn-bad', '<wwn>'),
                                       ('pcnet', '<model'), ('two-memories', '<memory>1024'),
                                       ('usb-disk', "bus='usb'")])
def test_a_mistake_is_at_its_own_line(place, name, tag):
    site = place(name)
    line = int(re.search(r'line (\d+): ', site.fails('vc-parse', site.vc_in))[1])
    assert tag in site.vc_in.read_text().splitlines()[line - 1]


def test_the_public_network_of_a_site_decides(site):
    """10.0.2.0/24 is free where the public network is a bridge."""
    where, fragment = ROWS['user-mode-overlap']
    site.vc_in.write_text(put(site.vc_in.read_text(), where, fragment))
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('public_network = bridge:br0\n')
    site.run('vc-parse', site.vc_in)


def test_an_image_of_any_path_is_not_taken_from_a_drive(place):
    """The empty drive comes first."""
    site = place('cdrom-first')
    files = etree.fromstring(site.run('vc-parse', site.vc_in).stdout).xpath('//source/@file')
    assert [os.path.basename(file) for file in files] == ['calit2-119-222.img.gz',
                                                          'hosted-vm-0-0-1.img.gz']


def test_a_guest_with_an_agent_starts(place):
    """libvirt makes the socket of its channel, and removes it."""
    site = place('guest-agent')
    document = site.document(site.entry, 'vc-inject', 0)
    domain = etree.fromstring(site.run('vc-boot', '--print', input=document).stdout)
    path = domain.xpath('string(devices/channel/source/@path)')
    site.run('vc-boot', '--paused', input=document)
    assert os.path.exists(path)
    site.run('vc-clean', site.entry)
    assert not os.path.exists(path)
