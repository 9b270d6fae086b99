"""vc-list, and the image database."""
import pytest


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


@pytest.mark.parametrize('database, reason', [
    ('no comma', "vcdb.txt:1: not a 'name,path' line: 'no comma'"),
    ('a,x\na,y', "vcdb.txt:2: entry 'a' is there twice"),
    ('../a,x', 'is not a name'),
    ('a b;$(id),x', 'is not a name'),
])
def test_bad_databases(empty_site, database, reason):
    (empty_site.base / 'vcdb.txt').write_text(database)
    assert reason in empty_site.fails('vc-list')
