"""What may be written as `store=`."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fnmap.errors import UsageError
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.storage.open import default_store, open_store


@pytest.fixture
def plugins(monkeypatch):
    """Pretend that packages with these entry points are installed."""

    def install(**values):
        points = [EntryPoint(name, value, "fnmap.stores") for name, value in values.items()]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [p for p in points if p.group == group])

    install()
    return install


def open_shelf(url):
    store = MemoryStore()
    store.put("url", url.encode())
    return store


def test_a_store_is_itself():
    store = MemoryStore()
    assert open_store(store) is store


def test_a_path_is_a_directory_of_files(tmp_path):
    assert open_store(tmp_path) == open_store(str(tmp_path)) == FileStore(tmp_path)
    assert open_store("~/store") == FileStore(Path.home() / "store")


@pytest.mark.parametrize("url", ["file:///data/a%20b", "FILE:///data/a b", "file://localhost/data/a b"])
def test_a_file_url_is_a_directory_of_files(url):
    assert open_store(url) == FileStore("/data/a b")


@pytest.mark.parametrize("url", ["file://data/a", "file://host", "file://", "file://."])
def test_a_file_url_is_absolute(url):
    with pytest.raises(UsageError, match="absolute path"):
        open_store(url)


def test_memory_of_one_name_is_one_store():
    assert open_store("memory://a") is open_store("memory://a")
    assert open_store("memory://") is open_store("memory://")
    assert open_store("memory://a") is not open_store("memory://b")
    assert isinstance(open_store("memory://"), MemoryStore)


def test_a_plugin_opens_its_scheme(plugins):
    plugins(shelf=f"{__name__}:open_shelf")
    assert open_store("shelf://third/row").get("url") == b"shelf://third/row"


def test_an_unknown_scheme_lists_the_known_ones(plugins):
    plugins(shelf="somewhere:open_shelf")
    with pytest.raises(UsageError, match=r"'gs://bucket'.*'file://', 'memory://', 's3://', 'shelf://'.*'fnmap.stores'"):
        open_store("gs://bucket")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("no_such_module:thing", "'no_such_module:thing' cannot be loaded: No module"),
        (f"{__name__}:no_such_thing", "cannot be loaded"),
        ("builtins:str", "gave 'shelf://a', which is no Store"),
    ],
)
def test_a_broken_plugin_is_named(plugins, value, complaint):
    plugins(shelf=value)
    with pytest.raises(UsageError, match=complaint):
        open_store("shelf://a")


@pytest.mark.parametrize("spec", [None, 3, b"/data", FileStore, MemoryStore, {}, 1.5], ids=repr)
def test_anything_else_is_refused(spec):
    with pytest.raises(UsageError, match="store must be a directory, a URL"):
        open_store(spec)


def test_an_empty_text_is_no_directory():
    with pytest.raises(UsageError, match="root must be the path"):
        open_store("")


def test_the_store_by_default_is_set_by_the_environment_or_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FNMAP_STORE", "")
    assert default_store() == FileStore(tmp_path / ".fnmap")
    monkeypatch.setenv("FNMAP_STORE", "memory://a")
    assert default_store() is open_store("memory://a")
