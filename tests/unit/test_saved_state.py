"""A saved state of libvirt's format becomes that of another domain."""
import pytest
from lxml import etree

from lab.documents import small
from pragma_boot.cluster import saved, saved_guest
from pragma_boot.engine import external, libvirt
from pragma_boot.engine.protocol import Unsupported
from pragma_boot.engine.saved import HEADER, MAGIC, Header, _header, _write
from pragma_boot.system.failure import Failure
from pragma_boot.system.settings import Settings

OLD, COOKIE, MEMORY = b'<domain><name>guest</name></domain>\0', b'<qemu/>\0', b'QEVM' + bytes(5000)


@pytest.fixture
def state(tmp_path):
    path = tmp_path / 'memory'
    header = Header(MAGIC, 2, len(OLD) + len(COOKIE), 0, 3, len(OLD))
    path.write_bytes(HEADER.pack(*header) + OLD + COOKIE + MEMORY)
    return path


@pytest.mark.parametrize('xml', [b'<domain/>\0', b'<domain>' + b' ' * 9000 + b'</domain>\0'])
def test_the_memory_follows_the_xml_of_another_domain(state, tmp_path, xml):
    """Its compression is kept, there is no cookie, and the guest runs."""
    _write(state, xml, tmp_path / 'new')
    data = (tmp_path / 'new').read_bytes()
    assert HEADER.size == 92
    assert Header(*HEADER.unpack(data[:92])) == Header(MAGIC, 2, len(xml), 1, 3, 0)
    assert data[92:] == xml + MEMORY


@pytest.mark.parametrize('data', [b'', b'LibvirtQemudSave', b'LibvirtQemudPart' + bytes(76),
                                  HEADER.pack(MAGIC, 3, 0, 0, 0, 0)])
def test_what_is_no_state_that_we_know(data):
    with pytest.raises(Failure, match="'x' is not a saved state of libvirt, version 2"):
        _header(data, 'x')


class Place:
    """A temporary directory, as a ledger has one."""

    def __init__(self, root):
        self.root = str(root)


def test_states_without_their_image(tmp_path):
    folder = tmp_path / 'saved'
    assert saved.unused(Place(tmp_path), []) == []
    for name in ('a-1.raw', 'b-22'):
        (folder / f"{name.removesuffix('.raw')}-0123").mkdir(parents=True)
        (folder / f"{name.removesuffix('.raw')}-0123.lock").touch()
    assert saved.unused(Place(tmp_path), {'a-1.raw', 'b-2.raw'}) == [
        str(folder / 'b-22-0123'), str(folder / 'b-22-0123.lock')]


def test_a_record_whose_document_is_not_in_the_disk(tmp_path):
    (tmp_path / saved.RECORD).write_text('{"extents": [[4096, 4]], "mounted": "", "document": "x"}')
    from pragma_boot.image import overlay
    backing = tmp_path / 'image.raw'
    backing.write_bytes(bytes(1 << 20))
    overlay.create(str(tmp_path / saved.DISK), str(backing))
    with pytest.raises(saved.Unfit, match='has no place of its own'):
        saved._read(str(tmp_path))


@pytest.mark.parametrize('kind, uri, said', [
    (libvirt.Libvirt, 'qemu+ssh://other/session', "'qemu[+]ssh://other/session' is another"),
    (external.External, 'driver:own', 'has no way')])
def test_engines_without_saved_states(tmp_path, kind, uri, said):
    (tmp_path / 'site_conf.conf').touch()
    engine = kind(uri, Settings.read(tmp_path / 'site_conf.conf'))
    with pytest.raises(Unsupported, match=said):
        engine.saved_states()


class Definer:
    """An engine whose domains have the attributes of a node's interfaces, and nothing else."""

    def definition(self, root, node, acceleration, console, started):
        return etree.Element('domain', {name: value for one in node.iterfind('interface')
                                        for name, value in one.attrib.items()})


def test_nodes_that_share_a_state():
    """A VLAN and a port are the cluster's; the size of the disk is the state's."""
    def name(**attributes):
        root = small()
        node = root.find("cluster/node[@role='compute']")
        if size := attributes.pop('disk_size', None):
            node.set('disk_size', size)
        node.find('interface').attrib.update(attributes)
        return saved_guest.Guest(node, Definer(), 'tcg').name('libvirt 9')

    assert name(port='23000') == name(port='23001') and name(vlan='7') == name(vlan='8')
    assert len({name(), name(disk_size='8589934592'), name(disk_size='17179869184')}) == 3
