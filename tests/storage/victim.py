"""A process that writes until it is killed: run by test_store_crash.py.

victim.py race ROOT SEED
    30 times: two forks create and put for ever, and are killed at a random instant; on stdout, who won
    which key, and how many files were swept
victim.py step ROOT VERB SYNC
    for n = 1, 2, ...: kill a fork at its n-th system call in the store ROOT/n, until one of them ends
    alive: that n on stdout
"""

import os
import random
import select
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from zlib import crc32

from fnmap.storage.files import FileStore

CALLS = ("open", "write", "fsync", "close", "mkdir", "link", "replace", "unlink")
BODIES = {"before": b"before" * 5000, "after": b"after" * 9000}


def sealed(name: str, size: int) -> bytes:
    """A body that shows whose it is, and whether it is whole."""
    body = f"{name} ".encode() * size
    return b"%08x %s" % (crc32(body), body)


def sealed_by(body: bytes) -> str:
    """Whose a sealed body is; "" if it is not whole."""
    return body[9:].split(b" ")[0].decode() if body[:8] == b"%08x" % crc32(body[9:]) else ""


def race(root: str, seed: str) -> None:
    store, dice = FileStore(root, sync=False), random.Random(seed)
    for round_ in range(30):
        pids = [fork(partial(write_for_ever, root, name, round_)) for name in ("anna", "bert")]
        select.select([], [], [], dice.uniform(0, 0.03))
        swept = store.sweep()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ends = [os.waitpid(pid, 0)[1] for pid in pids]
        assert ends == [signal.SIGKILL] * 2, "the sweep has disturbed a living writer"
        assert not swept, "nothing was dead yet"
        say(f"swept {store.sweep()}")


def write_for_ever(root: str, name: str, round_: int) -> None:
    store, dice = FileStore(root, sync=False), random.Random(f"{name} {round_}")
    for number in count():
        body = sealed(name, dice.randrange(10_000))
        store.put(f"put/{dice.randrange(5)}", body)
        key = f"create/{round_}/{number}"
        if store.create(key, body):
            say(f"{name} {key}")


def step(root: str, verb: str, sync: str) -> None:
    for number in count(1):
        store = FileStore(f"{root}/{number}", sync=sync == "True")
        if os.waitpid(fork(partial(write_once, store, verb, number)), 0)[1] == 0:
            say(str(number))
            return


def write_once(store: FileStore, verb: str, deadly_call: int) -> None:
    die_at(deadly_call)
    body = [BODIES["after"]] if verb == "create_parts" else BODIES["after"]
    getattr(store, verb)("a/b", body)


def die_at(number: int) -> None:
    """Let the process end in place of its `number`-th call that changes a file or a folder."""
    calls = count(1)

    def deadly(inner):
        def call(*args, **kwargs):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def say(line: str) -> None:
    """In one write, so that the lines of two processes do not mix."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    {"race": race, "step": step}[sys.argv[1]](*sys.argv[2:])
