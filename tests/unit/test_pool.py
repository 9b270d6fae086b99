"""The pools of a site: what a cluster gets, and messages for empty and wrong pools."""
import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from pragma_boot.cluster import pool
from pragma_boot.cluster.capacity import Capacity
from pragma_boot.document import attachment
from pragma_boot.document.subnet import usable
from pragma_boot.engine.libvirt import Libvirt
from pragma_boot.system.failure import Failure, Shortage, Usage
from pragma_boot.system.settings import Settings

NOTHING = pool.Taken.by([], '0' * 32)


def settings(**values):
    return Settings(values, 'site_conf.conf')


def bridged(**values):
    return settings(**{'netmask': '255.255.255.0', 'gateway': '192.0.2.1',
                       'public_ips': '192.0.2.10 a.example.org, 192.0.2.11 b.example.org',
                       **values})


def private(address, netmask):
    return etree.fromstring(
        f'<vc><networks><network name="private"><ipaddress>{address}</ipaddress>'
        f'<netmask>{netmask}</netmask></network></networks></vc>')


@given(st.integers(0, 2 ** 32 - 1), st.integers(8, 30), st.integers(0, 400))
def test_private_addresses_are_hosts_of_the_subnet_and_differ(address, prefix, count):
    interface = ipaddress.IPv4Interface((address, prefix))
    subnet = interface.network
    try:
        netmask, found = pool.private_addresses(private(interface.ip, interface.netmask), count)
    except Shortage:
        assert count > subnet.num_addresses - 3
    except Failure:
        assert not usable(subnet) or interface.ip in (subnet.network_address,
                                                      subnet.broadcast_address)
    else:
        assert netmask == str(interface.netmask) and found[0] == str(interface.ip)
        assert len(set(found)) == count + 1
        hosts = [ipaddress.IPv4Address(one) for one in found]
        assert all(one in subnet for one in hosts)
        assert not {subnet.network_address, subnet.broadcast_address} & set(hosts)
        assert hosts[1:] == sorted(hosts[1:], reverse=True)


def test_a_full_subnet():
    root = private('10.1.1.1', '255.255.0.0')
    assert len(pool.private_addresses(root, 65533)[1]) == 65534
    with pytest.raises(Shortage, match="pool 'private'"):
        pool.private_addresses(root, 65534)


@given(st.sets(st.integers(1, 300)), st.integers(0, 50))
def test_macs_are_new_and_differ(numbers, count):
    taken = frozenset(f'52:54:00:00:{number >> 8:02x}:{number & 255:02x}' for number in numbers)
    found = pool.macs(settings(), NOTHING._replace(macs=taken), count)
    assert len(set(found)) == count and not taken & set(found)


def test_vlans_are_given_once():
    site = settings(vlans='100-101')
    assert pool.vlan(settings(), NOTHING) is None
    assert pool.vlan(site, NOTHING) == 100
    assert pool.vlan(site, NOTHING._replace(vlans=frozenset({100}))) == 101
    with pytest.raises(Shortage, match=r"pool 'vlans' \(100-101\) has no VLAN left"):
        pool.vlan(site, NOTHING._replace(vlans=frozenset({100, 101})))


def test_public_addresses_are_given_once_with_their_names():
    assert pool.public(bridged(), NOTHING) == ('192.0.2.10', 'a.example.org')
    taken = NOTHING._replace(publics=frozenset({'192.0.2.10'}))
    assert pool.public(bridged(), taken) == ('192.0.2.11', 'b.example.org')
    with pytest.raises(Shortage, match=r"pool 'public_ips' .* has no address left"):
        pool.public(bridged(), NOTHING._replace(publics=frozenset({'192.0.2.10', '192.0.2.11'})))


@pytest.mark.parametrize('values', [
    {'public_ips': '192.0.2.10'}, {'public_ips': '192.0.2.10 a b'}, {'public_ips': 'x a'},
    {'public_ips': '192.0.2.1 gateway.example.org'}, {'public_ips': '192.0.3.10 elsewhere'},
    {'public_ips': '192.0.2.255 broadcast'}, {'public_ips': '192.0.2.9 a, 192.0.2.9 b'},
    {'netmask': '255.0.255.0'}, {'gateway': ''}])
def test_refuses_wrong_public_addresses(values):
    with pytest.raises(Failure, match=r'site_conf\.conf: ') as found:
        pool.public(bridged(**values), NOTHING)
    assert not isinstance(found.value, Shortage)


@pytest.mark.parametrize('vlans', ['0-3', '1-4095', '9-8', '1', 'x-y', '100-'])
def test_refuses_wrong_ranges_of_vlans(vlans):
    with pytest.raises(Failure, match='vlans must be a range'):
        pool.vlan(settings(vlans=vlans), NOTHING)


@pytest.mark.parametrize('word', ['10.2.0.0', '10.2.0.1/16', '10.2.0.0/31', '0.0.0.0/0', 'x/8',
                                  '127.0.0.0/8', '224.0.0.0/8', '10.2.0.0/255.0.255.0', ''])
def test_what_is_no_private_subnet(word):
    with pytest.raises(Usage, match=r"^--private-network (must be a subnet|'.*' is)"):
        pool.subnet_of(word)


def test_clusters_on_one_bridge_have_subnets_that_differ():
    document = etree.fromstring(
        '<vc><cluster><node><interface network="private" bridge="br0" ip="10.1.1.1" '
        'netmask="255.255.0.0" mac="52:54:00:00:00:01"/></node></cluster></vc>')
    taken = pool.Taken.by([document], '0' * 32)
    with pytest.raises(Shortage, match=r"pool 'private_network'.* has 10\.1\.0\.0/16 in use"):
        pool.check_subnet('br0', '10.1.2.3', '255.255.255.0', taken)
    pool.check_subnet('br0', '10.2.2.3', '255.255.255.0', taken)
    pool.check_subnet('br1', '10.1.2.3', '255.255.255.0', taken)


@pytest.mark.parametrize('values, word', [
    ({'private_network': 'br0'}, 'socket or bridge:NAME or ovs:NAME'),
    ({'private_network': 'bridge:a b'}, 'socket or bridge:NAME or ovs:NAME'),
    ({'private_network': 'bridge:a-name-that-is-too-long'}, 'socket or bridge:NAME or ovs:NAME'),
    ({'public_network': 'network:'}, 'user or bridge:NAME or ovs:NAME or network:NAME'),
    ({'storage': 'pool'}, 'shared or pool:NAME'),
    ({'hosts': ''}, 'libvirt URIs'), ({'hosts': 'qemu:///system qemu:///system'}, 'libvirt URIs'),
    ({'hosts': 'localhost'}, 'libvirt URIs'),
    ({'hosts': 'qemu+ssh://a/system qemu+ssh://b/system'}, 'bridge:NAME or ovs:NAME where'),
    ({'accel': 'xen'}, 'one of auto, kvm, tcg')])
def test_refuses_settings(values, word):
    """Settings are checked where they are used."""
    with pytest.raises(Failure, match=word):
        site = settings(**values)
        attachment.choose(site, 'private_network')
        attachment.choose(site, 'public_network')
        Libvirt('qemu:///session', site).storage(None)
        Capacity(site)


@given(st.integers(0, 2 ** 32 - 1), st.integers(8, 30),
       st.integers(0, 2 ** 32 - 1), st.integers(8, 32))
@example(0x0a010101, 16, 0x0a010509, 24)
@example(0x0a010101, 24, 0x0a010001, 8)
def test_row_45_the_private_and_the_public_network_are_apart(inside, prefix, outside, bits):
    one, two = (ipaddress.IPv4Interface(pair) for pair in ((inside, prefix), (outside, bits)))
    root = private(one.ip, one.netmask)
    public = {'ip': str(two.ip), 'netmask': str(two.netmask)}
    if two.ip in one.network or one.ip in two.network:
        with pytest.raises(Failure, match=f'line 1: the private network {one.network} overlaps'):
            pool.check_public(root, str(one.netmask), public)
    else:
        pool.check_public(root, str(one.netmask), public)


@pytest.mark.parametrize('netmask', ['24', '0.0.0.255', '/24'])
def test_row_46_a_netmask_is_written_in_full(netmask):
    with pytest.raises(Failure, match='netmask'):
        pool.public(bridged(netmask=netmask), NOTHING)


@pytest.mark.parametrize('name', ['compute-0.example.org', 'localhost', 'a_b.example.org', 'a.'])
def test_row_46_names_of_frontends(name):
    with pytest.raises(Failure, match='public_ips must be'):
        pool.public(bridged(public_ips=f'192.0.2.10 {name}'), NOTHING)
