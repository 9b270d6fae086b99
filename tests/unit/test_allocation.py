"""Properties of packing and placement, the pure part of allocation."""
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pragma_boot.cluster import allocation
from pragma_boot.document import hardware
from pragma_boot.system import names
from pragma_boot.system.failure import Failure, Shortage

memories = st.integers(1, 1 << 20)
rooms = st.lists(st.tuples(st.integers(-4, 64), memories), min_size=1, max_size=6)


def hosts(found):
    return [allocation.Free(f'host{index}', *room) for index, room in enumerate(found)]


def assert_fits(nodes, chosen, free):
    for room in free:
        mine = [node for node, host in zip(nodes, chosen, strict=True) if host == room.host]
        assert not mine or sum(cpus for cpus, _ in mine) <= room.cpus
        assert not mine or sum(memory for _, memory in mine) <= room.memory


@given(st.integers(1, 5000), st.integers(1, 256))
def test_pack_is_exact_and_uses_the_fewest_nodes(num_cpus, cpus_per_node):
    sizes = allocation.pack(num_cpus, cpus_per_node)
    assert sum(sizes) == num_cpus and max(sizes) <= cpus_per_node and min(sizes) > 0
    assert (len(sizes) - 1) * cpus_per_node < num_cpus
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.integers(1, 8), memories), min_size=1, max_size=20), rooms)
def test_place_never_overfills_a_host_and_is_deterministic(nodes, found):
    free = hosts(found)
    chosen = allocation.place(nodes, free)
    assert chosen == allocation.place(nodes, list(reversed(free)))
    if chosen is not None:
        assert len(chosen) == len(nodes)
        assert_fits(nodes, chosen, free)


def test_the_freest_host_is_filled_first():
    free = hosts([(3, 9), (5, 9), (5, 9)])
    assert allocation.place([(2, 1)] * 5, free) == ['host1', 'host1', 'host2', 'host2', 'host0']
    assert allocation.place([(1, 5), (1, 5)], free) == ['host1', 'host2']
    assert allocation.place([(1, 5)] * 4, free) is None


@given(st.integers(0, 100), st.integers(1, 9), rooms, st.integers(0, 1000), st.integers(0, 100))
def test_spread_is_exact_within_limits_and_takes_the_fewest_nodes_that_fit(
        num_cpus, cpus_per_node, found, least, step):
    free = hosts(found)
    try:
        nodes, chosen = allocation.spread([(1, 1)], num_cpus, cpus_per_node,
                                          lambda cpus: least + (cpus - 1) * step, free)
    except Shortage as error:
        assert f'{names.cpus(num_cpus + 1)} and' in str(error) and 'free on' in str(error)
        # This site has no room, not even for nodes of one CPU each.
        assert allocation.place([(1, 1)] + [(1, least)] * num_cpus, free) is None
        return
    computes = nodes[1:]
    assert nodes[0] == (1, 1) and sum(cpus for cpus, _ in computes) == num_cpus
    assert all(1 <= cpus <= cpus_per_node for cpus, _ in computes)
    assert all(memory == least + (cpus - 1) * step for cpus, memory in computes)
    assert_fits(nodes, chosen, free)
    most = max((cpus for cpus, _ in computes), default=0)
    for larger in range(most + 1, cpus_per_node + 1):
        sizes = allocation.pack(num_cpus, larger)
        assert len(sizes) == len(computes) or allocation.place(
            [(1, 1)] + [(cpus, least + (cpus - 1) * step) for cpus in sizes], free) is None


def test_a_shortage_says_what_is_asked_and_what_is_free():
    with pytest.raises(Shortage, match='not enough room: 5 nodes need 9 CPUs and 5 MiB, '
                                       'but 8 CPUs and 10 MiB are free on 2 hosts'):
        allocation.spread([(1, 1024)], 8, 2, lambda cpus: 1024, hosts([(5, 5 << 10), (3, 5 << 10)]))


UNITS = {'b': 1, 'bytes': 1, 'KB': 10 ** 3, 'k': 2 ** 10, 'KiB': 2 ** 10, 'MB': 10 ** 6,
         'M': 2 ** 20, 'MiB': 2 ** 20, 'GB': 10 ** 9, 'G': 2 ** 30, 'GiB': 2 ** 30,
         'TB': 10 ** 12, 'T': 2 ** 40, 'TiB': 2 ** 40, 'PB': 10 ** 15, 'P': 2 ** 50, 'PiB': 2 ** 50}
"""Units of libvirt's <memory unit=> in bytes (formatdomain, Memory Allocation)."""


@given(memories, st.sampled_from(sorted(UNITS)), st.sampled_from([str, str.lower, str.upper]))
def test_memory_is_rounded_up_to_kib(amount, unit, case):
    author = etree.fromstring(f'<domain><memory unit="{case(unit)}">{amount}</memory></domain>')
    exact = amount * UNITS[unit]
    if 0 < exact <= 1 << 50:
        assert 0 <= hardware.memory(author) * 1024 - exact < 1024
    else:
        with pytest.raises(Failure, match='is not between'):
            hardware.memory(author)
