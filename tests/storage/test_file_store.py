"""The store of files: the contract, and what only files have: errors of the system, folders, leftovers."""

import errno
import os
import pickle
import resource
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from fnmap.errors import MissingKey, StoreError, StoreFull, StoreReadOnly, UsageError
from fnmap.storage import disk, files, owner
from fnmap.storage.files import FileStore
from fnmap.testing.stores import StoreContract


def leftovers(store):
    return sorted(path.name for path in Path(store.root, ".tmp").glob("*"))


def failing(code):
    """A system call that fails."""

    def call(*_args, **_options):
        raise OSError(code, os.strerror(code))

    return call


class TestFileStore(StoreContract):
    @pytest.fixture(params=[True, False], ids=["sync", "nosync"])
    def store(self, tmp_path, request):
        store = FileStore(tmp_path / "store", sync=request.param)
        yield store
        assert leftovers(store) == []


class TestFileStoreWithoutHardLinks(StoreContract):
    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
        store = FileStore(tmp_path / "store", sync=False)
        yield store
        assert leftovers(store) in ([], ["lock"])


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "store", sync=True)


# -- the root ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "sub", "sub/sub"])
def test_a_root_that_is_a_file_is_refused_at_once(tmp_path, below):
    file = tmp_path / "notes.txt"
    file.write_text("")
    with pytest.raises(UsageError, match=r"notes\.txt' is a file"):
        FileStore(file / below)


@pytest.mark.parametrize("root", ["", "s3://bucket", None, b"/data", 3])
def test_a_root_that_is_no_path_is_refused(root):
    with pytest.raises(UsageError, match="root must be the path"):
        FileStore(root)


def test_a_relative_root_does_not_move_with_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FileStore("here/store")
    monkeypatch.chdir("/")
    assert store.root == str(tmp_path / "here/store")


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FileStore("~/store").root == str(tmp_path / "store")


def test_nothing_is_made_before_the_first_write(store):
    assert list(store.list("")) == []
    with pytest.raises(MissingKey):
        store.get("a")
    store.delete(["a"])
    assert store.sweep() == 0
    assert not Path(store.root).exists()


def test_stores_of_one_root_are_equal(store, tmp_path):
    copy = pickle.loads(pickle.dumps(store))
    assert (copy, copy.sync, hash(copy)) == (store, store.sync, hash(store))
    assert FileStore(store.root + "/", sync=False) == store
    assert FileStore(tmp_path) != store
    assert repr(store) == f"FileStore({store.root!r}, sync=True)"


def test_an_object_is_a_file(store):
    store.put("a/b.parquet", b"body")
    assert store.url("a/b.parquet") == f"{store.root}/a/b.parquet"
    assert store.path("a/b.parquet").read_bytes() == b"body"


def test_others_may_read_what_the_umask_lets_them(store):
    before = os.umask(0o027)
    try:
        store.create("a", b"")
    finally:
        os.umask(before)
    assert store.path("a").stat().st_mode & 0o777 == 0o640


# -- folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["put", "create"])
@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a/b/c", "a")])
def test_a_key_cannot_be_the_folder_of_another(store, verb, first, second):
    store.put(first, b"first")
    with pytest.raises(UsageError, match=r"cannot write .* a file and a folder"):
        getattr(store, verb)(second, b"second")
    assert list(store.list("")) == [first]
    assert leftovers(store) == []


def test_folders_go_with_their_last_object(store):
    for key in ("a/b/c/1", "a/b/c/2", "a/d"):
        store.put(key, b"")
    store.delete(["a/b/c/1"])
    assert store.path("a/b/c").is_dir()
    store.delete(["a/b/c/2"])
    assert not store.path("a/b").exists()
    store.delete(["a/d"])
    assert [path.name for path in Path(store.root).iterdir()] == [".tmp"]


def test_a_store_that_was_removed_is_made_again(store):
    for _ in range(2):
        assert store.create("a/b", b"")
        shutil.rmtree(store.root)
        store.put("a/b", b"")
        shutil.rmtree(store.root)


def test_a_folder_that_keeps_vanishing_ends_in_an_error(store, monkeypatch):
    monkeypatch.setattr(disk, "make_folder", lambda _, sync: sync)
    Path(store.root, ".tmp").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write .*a/b: No such file"):
        store.create("a/b", b"")
    assert leftovers(store) == []


def test_files_that_can_be_no_keys_are_not_listed(store):
    store.put("a/b", b"")
    Path(store.root, "a", "é").touch()
    Path(store.root, "a", "loop").symlink_to(store.root)
    Path(store.root, ".tmp", "half").touch()
    os.mkfifo(f"{store.root}/pipe")
    assert list(store.list("")) == ["a/b"]
    assert list(store.list(".")) == []


# -- what is flushed, and when -------------------------------------------------------------------------


def name_of(fd):
    path = Path(f"/proc/self/fd/{fd}").readlink()
    return "aside" if ".tmp" in path.parts else path.name


@pytest.fixture
def system_calls(monkeypatch):
    """The calls that decide on durability, in order; an fsync with the last segment of what it flushes."""
    calls = []

    def record(name):
        inner = getattr(os, name)

        def call(*args, **options):
            calls.append(f"fsync {name_of(args[0])}" if name == "fsync" else name)
            return inner(*args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "link", "replace"):
        record(name)
    return calls


@pytest.mark.parametrize(("verb", "publish"), [("create", "link"), ("put", "replace")])
def test_bytes_are_flushed_before_the_name_and_the_name_after(store, verb, publish, system_calls):
    store.put("a/first", b"")
    system_calls.clear()
    getattr(store, verb)("a/b", b"")
    assert system_calls == ["fsync aside", publish, "fsync a"]


def test_the_names_of_new_folders_are_flushed(store, system_calls):
    store.put("first", b"")
    system_calls.clear()
    store.create("a/b/c", b"")
    assert system_calls == ["fsync aside", "fsync store", "fsync a", "link", "fsync b"]


def test_without_sync_nothing_is_flushed(tmp_path, system_calls):
    store = FileStore(tmp_path / "store", sync=False)
    store.put("a/b", b"")
    store.create("a/c", b"")
    assert not [call for call in system_calls if call.startswith("fsync")]


def test_a_file_system_that_flushes_no_folders_is_good_enough(store, monkeypatch):
    fsync = os.fsync

    def files_only(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", files_only)
    assert store.create("a/b", b"")


# -- what the system may answer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (errno.ENOSPC, StoreFull, "free some space"),
        (errno.EDQUOT, StoreFull, "free some space"),
        (errno.EROFS, StoreReadOnly, "make it writable"),
        (errno.EACCES, StoreReadOnly, "make it writable"),
        (errno.EIO, StoreError, "check the disk"),
        (errno.EFBIG, StoreError, "ulimit -f"),
        (errno.EMFILE, StoreError, "ulimit -n"),
        (errno.EXDEV, StoreError, "one file system"),
        (errno.EBUSY, StoreError, "busy"),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_failed_write_says_what_and_where_and_leaves_nothing(store, monkeypatch, call, code, kind, advice):
    store.put("a/first", b"")
    monkeypatch.setattr(os, call, failing(code))
    with pytest.raises(StoreError, match=rf"cannot write {store.root}/a/b: .*{advice}") as caught:
        store.create("a/b", b"body")
    monkeypatch.undo()
    assert type(caught.value) is kind
    assert caught.value.__cause__.errno == code
    assert kind is StoreError or caught.value.errno == code
    assert list(store.list("")) == ["a/first"]
    assert leftovers(store) == []


def test_an_error_on_closing_counts(store, monkeypatch):
    close = os.close

    def full(fd):
        close(fd)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "close", full)
    with pytest.raises(StoreFull):
        store.put("a", b"")
    monkeypatch.undo()
    assert list(store.list("")) == leftovers(store) == []


def test_an_interrupted_write_leaves_nothing(store, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    Path(store.root, ".tmp").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        store.create("a", b"")
    assert list(store.list("")) == leftovers(store) == []


def test_a_write_in_small_steps_is_whole(store, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    store.put("a", bytes(range(100)))
    assert store.get("a") == bytes(range(100))


def test_small_parts_are_written_at_once_and_in_order(store, monkeypatch):
    write, sizes = os.write, []
    monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or write(fd, data))
    most = disk.TOGETHER_BYTES
    parts = [b"a", memoryview(b"bc"), b"", b"D" * (most + 1), b"e" * most, b"f", b"g", b"H" * (most + 1)]
    store.create_parts("a", parts)
    assert sizes == [3, most + 1, most, 2, most + 1]
    assert store.get("a") == b"".join(parts)


def test_a_link_whose_answer_was_lost_was_won(store, monkeypatch):
    link = os.link

    def lose_the_answer(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", lose_the_answer)
    assert store.create("a", b"mine") is True
    assert store.create("a", b"late") is False
    assert store.get("a") == b"mine"


def test_a_late_loser_writes_nothing(store, monkeypatch):
    store.create("a", b"first")
    monkeypatch.setattr(os, "write", failing(errno.ENOSPC))
    assert store.create("a", b"second") is False


@pytest.mark.parametrize("verb", ["get", "map"])
def test_an_object_that_may_not_be_read_is_not_missing(store, monkeypatch, verb):
    store.put("a", b"body")
    monkeypatch.setattr(files, "open", failing(errno.EACCES), raising=False)
    with pytest.raises(StoreError, match=r"cannot read .*/a: Permission denied") as caught:
        getattr(store, verb)("a")
    assert type(caught.value) is StoreError


def test_more_objects_can_be_mapped_than_files_opened(store):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    store.put("a", b"body")
    others = len(list(Path("/proc/self/fd").iterdir()))  # of other tests' sessions
    resource.setrlimit(resource.RLIMIT_NOFILE, (others + 100, hard))
    try:
        views = [store.map("a") for _ in range(300)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(view == b"body" and not view.readonly for view in views)


def test_a_file_beyond_the_limit_of_the_process_is_refused(store):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store.put("a", b"small")
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*/a: File too large.*ulimit -f"):
            store.put("a", bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.get("a") == b"small"
    assert leftovers(store) == []


# -- a real disk that is full, a real one that is read-only --------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB of our own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if not mount or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk):
    store = FileStore(small_disk / "store")
    store.put("a", b"first")
    for write in (store.put, store.create):
        with pytest.raises(StoreFull, match=rf"cannot write {small_disk}/store/b: No space left on device"):
            write("b", bytes(2 << 20))
    assert list(store.list("")) == ["a"]
    assert leftovers(store) == []
    assert store.create("b", bytes(1 << 19)), "the space that the failed writes took is free again"


@pytest.fixture
def read_only_store(request, tmp_path):
    """A store with one object that may not be written: by permission, or, as root obeys none, by mount."""
    if os.geteuid() == 0:
        store = FileStore(request.getfixturevalue("small_disk"))
        store.put("a/b", b"first")
        subprocess.run(["mount", "-o", "remount,ro", store.root], check=True)
        yield store
        return
    store = FileStore(tmp_path / "store")
    store.put("a/b", b"first")
    folders = [Path(store.root), *Path(store.root).rglob("*/")]
    for folder in folders:
        folder.chmod(0o555)
    yield store
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_store_reads_and_says_that_it_does_not_write(read_only_store):
    store = read_only_store
    for change in (
        lambda: store.put("a/b", b""),
        lambda: store.put("a/c", b""),
        lambda: store.create("c", b""),
        lambda: store.delete(["a/b"]),
    ):
        with pytest.raises(StoreReadOnly, match=rf"{store.root}/.*make it writable"):
            change()
    assert store.create("a/b", b"") is False
    assert store.get("a/b") == b"first"
    assert list(store.list("")) == ["a/b"]
    assert store.sweep() == 0


# -- what killed writers leave -------------------------------------------------------------------------


def test_a_sweep_takes_what_has_no_living_writer(store):
    store.put("a", b"")
    aside = Path(store.root, ".tmp")
    mine = Path(disk.write_aside(str(aside), [b"half"], sync=False))
    host, pid, birth, _ = mine.name.split(".")
    gone = [f"{host}.{pid}.1.0", f"{host}.4194400.{birth}.0", f"{host}.{10**30}.{birth}.0", "elsewhere.1.1.1"]
    kept = [mine.name, "elsewhere.1.1.0", "lock", "a.b.c.d", "notes"]
    for name in {*gone, *kept}:
        (aside / name).touch()
    past = (aside / "lock").stat().st_mtime - disk.ABANDONED_S - 1
    for name in ("elsewhere.1.1.1", "lock", mine.name, "notes"):
        os.utime(aside / name, (past, past))
    assert store.sweep() == len(gone)
    assert leftovers(store) == sorted(kept)
    assert store.sweep() == 0


def test_a_process_without_a_birth_mark_is_left_alone_while_its_pid_lives(store, monkeypatch):
    monkeypatch.setattr(owner, "_birth", lambda _: "")
    disk.write_aside(f"{store.root}/.tmp", [b"half"], sync=False)
    assert store.sweep() == 0
