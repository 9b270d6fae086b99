"""What guests of both generations read in their vc-out.xml."""


# Issue 2, item 5, and design section 7; guests/test_cluster.py reads the same inside the guests.
OLDER_FRONTEND = {'frontend/public': ('fqdn', 'ip', 'netmask', 'gw', 'mac'),
                  'frontend/private': ('ip', 'netmask', 'mac'),
                  'compute/node': ('name', 'ip', 'cpus')}


OLDER_COMPUTE = {'compute/private': ('fqdn', 'ip', 'netmask', 'gw', 'mac'),
                 'frontend/public': ('fqdn',)}


NEWER = {'frontend': ('name', 'fqdn', 'gw'), 'compute': ('name', 'gw')}


def check_older(vc_out, expected):
    for path, attributes in expected.items():
        found = vc_out.findall(path)
        assert found, path
        for element in found:
            for attribute in attributes:
                assert element.get(attribute), f'{path}/@{attribute}'
    # Rocks takes the interfaces of a compute node from the children of its element.
    for node in vc_out.findall('compute/node'):
        assert all(node.find('private').get(name) for name in ('ip', 'netmask', 'mac'))
    assert vc_out.find('network/dns').get('ip') and vc_out.find('key') is not None


def check_newer(vc_out, role):
    own = vc_out.find(role)
    assert all(own.get(attribute) for attribute in NEWER[role])
    # hostname -s
    assert role != 'frontend' or own.get('name') == own.get('fqdn').split('.')[0]
    assert len(own) >= 1
    for child in own:
        assert all(child.get(attribute) for attribute in ('ip', 'netmask', 'mac')), child.tag
