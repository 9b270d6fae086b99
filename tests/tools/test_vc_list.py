"""vc-list, and the image database."""
import pytest
from lxml import etree


def test_names_the_entries(site, golden, replacements):
    site.add_entry('another', site.vc_in.parent / 'hosted-vm-0-0-1.img.gz')
    assert site.run('vc-list').stdout.decode() == f'another\n{site.entry}\n'
    golden('vc-list', site.run('vc-list', '--xml').stdout, *replacements)
    assert site.run('vc-list', '--path', 'another').stdout.decode() == \
        f'{site.base}/another/vc-in.xml\n'


def test_leaves_out_an_entry_whose_image_is_missing(site):
    site.add_entry('broken', site.vc_in.parent / 'hosted-vm-0-0-1.img.gz')
    (site.base / 'broken' / 'hosted-vm-0-0-1.img.gz').unlink()
    done = site.run('vc-list')
    assert done.stdout.decode() == f'{site.entry}\n'
    line = done.stderr.decode()
    assert line.startswith("vc-list: entry 'broken' is not listed: cannot open image")


def test_base_path_without_a_database(empty_site):
    line = empty_site.fails('vc-list', '--base_path', empty_site.folder)
    assert "vcdb.txt': No such file or directory" in line


def test_unknown_entry(site):
    assert "no entry 'nothing'" in site.fails('vc-list', '--path', 'nothing')


@pytest.mark.parametrize('line, reason', [
    (b'no comma', "not a 'name,path' line: 'no comma'"),
    (b'name,', "not a 'name,path' line: 'name,'"),
    (b',path', 'is not a name'),
    (b'../a,x', 'is not a name'),
    (b'a b;$(id),x', 'is not a name'),
    (b'a' * 64 + b',x', 'is not a name'),
    (b'm\xfcller,x', 'not UTF-8 text'),
    (b'a,x\0y', 'has a NUL character'),
])
@pytest.mark.parametrize('tool, arguments', [('vc-list', []), ('pragma_boot', ['--list'])])
def test_a_bad_line_is_named_and_skipped(site, tool, arguments, line, reason):
    database = site.base / 'vcdb.txt'
    database.write_bytes(b'# entries\n' + line + b'\n' + database.read_bytes())
    done = site.run(tool, *arguments)
    assert done.stdout.decode() == f'{site.entry}\n'
    told, = done.stderr.decode().splitlines()
    assert 'vcdb.txt:2: ' in told and reason in told and told.endswith('the line is skipped')
    assert site.run('vc-list', '--path', site.entry).stdout.decode() == f'{site.vc_in}\n'
    # Nobody asked vc-parse about the database.
    assert site.run('vc-parse', site.vc_in).stderr == b''


def test_the_first_of_two_entries_of_one_name_is_taken(site):
    with open(site.base / 'vcdb.txt', 'a', encoding='utf-8') as database:
        database.write(f'{site.entry},elsewhere/vc-in.xml\n')
    done = site.run('vc-list', '--path', site.entry)
    assert done.stdout.decode() == f'{site.vc_in}\n'
    assert f"vcdb.txt:2: duplicate entry '{site.entry}'" in done.stderr.decode()


@pytest.mark.parametrize('name, cluster', [
    ('rocks_6_2', 'rocks-6-2'), ('_old_', 'old'), ('a_.b_c', 'a.b-c')])
def test_a_name_with_underscores(site, name, cluster):
    """The entry keeps it; the cluster's name, which is a host name, has '-' in its place."""
    vc_in = site.add_entry(name, site.vc_in.parent / 'hosted-vm-0-0-1.img.gz')
    assert name in site.run('vc-list').stdout.decode().splitlines()
    parsed = site.run('vc-parse', vc_in).stdout
    assert etree.fromstring(parsed).find('source').get('name') == name
    document = site.run('vc-allocate', '--dry-run', '--num-cpus', 0, '--key', site.key,
                        input=parsed).stdout
    assert etree.fromstring(document).find('cluster').get('name') == cluster
    told = site.run('pragma_boot', '--vcname', name, '--dry-run', '--key', site.key).stdout
    assert etree.fromstring(told).find('cluster').get('name') == cluster
