"""Functions of stages, importable by worker processes. Some behave badly."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator


def numbers() -> Iterator[int]:
    """0, 1, 2, ..."""
    return itertools.count()


def few() -> Iterator[int]:
    """0 to 9."""
    return iter(range(10))


def same(item):
    return item


def double(item):
    return 2 * item


def double_all(items):
    return [2 * item for item in items]


def fails_on_five(item):
    if item == 5:
        raise ValueError("five is too many")
    return item


def source_fails():
    yield 1
    raise OSError("the camera is unplugged")


def exits(item):
    if item == 3:
        sys.exit("enough")
    return item


def killed_on_five(item):
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def leaves_on_five(item):
    if item == 5:
        os._exit(3)
    return item


def orphan_holds_the_connection(item):
    """Dies, but a child of its own keeps every open file."""
    if item == 5:
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(4)
    return item


def never_returns(item):
    while item == 5:
        time.sleep(1000)
    return item


def sleeps_for_ever(item):
    time.sleep(1000)


def holds_until_killed(item):
    while item == 5:
        pass
    return item


def never_gives():
    yield 0
    time.sleep(1000)


def starts_a_process(item):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid


def gives_a_lock(item):
    return threading.Lock()


def gives_no_list(items):
    return 7


def not_iterable():
    return 3


def pid(item):
    return os.getpid()


def slow(item):
    time.sleep(0.01)
    return item


def very_slow(item):
    time.sleep(0.3)
    return item


class Counting:
    """Numbers its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, item):
        self.calls += 1
        return self.calls


class CannotStart:
    def __init__(self):
        raise RuntimeError("no model file")

    def __call__(self, item):
        return item


class NotCallable:
    pass


NUMBER = 5
