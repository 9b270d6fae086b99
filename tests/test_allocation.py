"""Properties of the pure part of allocation."""
import ipaddress

from hypothesis import given, strategies as st
from lxml import etree

from pragma_boot import allocation
from pragma_boot.failure import Failure, Shortage

memories = st.integers(1, 1 << 20)


@given(st.integers(1, 5000), st.integers(1, 256))
def test_pack_is_exact_and_uses_the_fewest_nodes(num_cpus, cpus_per_node):
    sizes = allocation.pack(num_cpus, cpus_per_node)
    assert sum(sizes) == num_cpus and max(sizes) <= cpus_per_node and min(sizes) > 0
    assert (len(sizes) - 1) * cpus_per_node < num_cpus
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.integers(1, 8), memories), min_size=1, max_size=20),
       st.lists(st.tuples(st.integers(-4, 64), memories), min_size=1, max_size=6))
def test_place_never_overfills_a_host_and_is_deterministic(nodes, hosts):
    free = [allocation.Free(f'host{index}', *room) for index, room in enumerate(hosts)]
    try:
        chosen = allocation.place(nodes, free)
    except Shortage:
        return
    assert chosen == allocation.place(nodes, list(reversed(free)))
    for room in free:
        mine = [node for node, host in zip(nodes, chosen) if host == room.host]
        assert not mine or sum(cpus for cpus, _ in mine) <= room.cpus
        assert not mine or sum(memory for _, memory in mine) <= room.memory


@given(st.integers(0, 2 ** 32 - 1), st.integers(8, 30), st.integers(0, 400))
def test_private_addresses_are_hosts_of_the_subnet_and_differ(address, prefix, count):
    interface = ipaddress.IPv4Interface((address, prefix))
    root = etree.fromstring(
        f'<vc><networks><network name="private"><ipaddress>{interface.ip}</ipaddress>'
        f'<netmask>{interface.netmask}</netmask></network></networks></vc>')
    subnet = interface.network
    try:
        netmask, found = allocation.private_addresses(root, count)
    except Shortage:
        assert count > subnet.num_addresses - 3
    except Failure:
        assert interface.ip in (subnet.network_address, subnet.broadcast_address)
    else:
        assert netmask == str(interface.netmask) and found[0] == str(interface.ip)
        assert len(set(found)) == count + 1
        hosts = [ipaddress.IPv4Address(one) for one in found]
        assert all(one in subnet for one in hosts)
        assert not {subnet.network_address, subnet.broadcast_address} & set(hosts)
        assert hosts[1:] == sorted(hosts[1:], reverse=True)


def test_a_full_subnet():
    root = etree.fromstring('<vc><networks><network name="private"><ipaddress>10.1.1.1</ipaddress>'
                            '<netmask>255.255.0.0</netmask></network></networks></vc>')
    assert len(allocation.private_addresses(root, 65533)[1]) == 65534
    try:
        allocation.private_addresses(root, 65534)
        raise AssertionError('one more than fits')
    except Shortage as error:
        assert "pool 'private'" in str(error)


@given(st.sets(st.integers(1, 300)), st.integers(0, 50))
def test_macs_are_new_and_differ(numbers, count):
    taken = {f'52:54:00:00:{number >> 8:02x}:{number & 255:02x}' for number in numbers}
    found = allocation.macs('52:54:00', taken, count)
    assert len(set(found)) == count and not taken & set(found)


@given(memories, st.sampled_from(sorted(allocation.MEMORY_UNITS)))
def test_memory_is_rounded_up_to_kib(amount, unit):
    author = etree.fromstring(f'<domain><memory unit="{unit}">{amount}</memory></domain>')
    exact = amount * allocation.MEMORY_UNITS[unit]
    assert 0 <= allocation.memory(author) * 1024 - exact < 1024
