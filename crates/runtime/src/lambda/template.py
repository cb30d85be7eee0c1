"""Tangelo's template for Python: an interpreter that has booted and imported the bootstrap, and forks for each instance.

The launcher asks through standard input, which is a socket: one byte with three descriptors (a link, standard output,
standard error). The fork leads a session of its own, becomes the launcher's child (its parent, a fork itself, ends),
says its process id on the link, and waits there until it was put within its limits and is told its environment and
folder. Nothing of one instance is ever known to the template.
"""

import gc
import json
import os
import struct
import sys
import time

import ctypes  # The only way from Python to prctl(2): without it there is no template.

import tangelo_bootstrap as bootstrap

PR_SET_PDEATHSIG = 1
KILL = 9
prctl = ctypes.CDLL(None, use_errno=True).prctl


class Room:
    """The memory that the system shows as this process's environment (`/proc/PID/environ`)."""

    def __init__(self):
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        self.start, self.end = int(fields[47]), int(fields[48])

    def write(self, content):
        size = self.end - self.start
        # What is cut off ends before the last whole variable.
        if len(content) > size:
            content = content[: content.rfind(b"\0", 0, size) + 1]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(self.start)
            if memory.write(content.ljust(size, b"\0")) != size:
                raise OSError("the environment cannot be written over")

    def read(self):
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(self.start)
            return memory.read(self.end - self.start)


def exactly(link, size):
    parts = []
    while size > 0:
        part = link.recv(min(size, 1 << 20))
        if not part:
            os._exit(0)  # Nobody wants this fork any more.
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def become(link, room):
    """Takes the identity that comes on the link."""
    who = json.loads(exactly(link, int.from_bytes(exactly(link, 4), "little")))
    # Everything is unset first, so that nothing points any more to the memory that is written over.
    coerced = os.environ.get("LC_CTYPE")
    os.environ.clear()
    os.environ.update(who["env"])
    if coerced:
        # Where the machine lacks the locale, the interpreter has chosen another while it booted (PEP 538).
        os.environ.setdefault("LC_CTYPE", coerced)
    content = b"".join(os.fsencode(name + "=" + value) + b"\0" for name, value in who["env"])
    room.write(content)
    os.chdir(who["cwd"])
    time.tzset()
    # What was decided from the template's environment or its own randomness is decided anew; `random` and OpenSSL see
    # to themselves.
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def adopted(launcher):
    """Waits until the launcher is this process's parent, then ties the one's life to the other's."""
    for turn in range(100000):
        if os.getppid() == launcher:
            break
        if turn > 100:
            time.sleep(0.0001)
    prctl(PR_SET_PDEATHSIG, KILL)
    if os.getppid() != launcher:
        os._exit(0)


def fork(control, fds, launcher, room):
    """Whether this is the fork; the template goes on."""
    link, out, err = fds
    first = os.fork()
    if first:
        for fd in fds:
            os.close(fd)
        os.waitpid(first, 0)
        return False
    if os.fork():
        os._exit(0)
    control.close()
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.setsid()
    adopted(launcher)
    # `fileno=` alone would ask for the kind of the socket, which is known.
    link = bootstrap.socket.socket(bootstrap.socket.AF_UNIX, bootstrap.socket.SOCK_STREAM, 0, link)
    link.send(b"%d\n" % os.getpid())
    become(link, room)
    link.close()
    return True


def bears_forks():
    """Why instances cannot be forks of this process, if they cannot."""
    if len(os.listdir("/proc/self/task")) > 1:
        return "it has started threads, which no fork would have"
    for fd in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            continue
        if kind.startswith("socket:") and int(fd) != 0:
            return "it has opened connections, which all forks would share"
    return None


def serve(with_handler):
    """Returns in each fork, with its handler if that is loaded; the template itself ends here."""
    room = Room()
    room.write(room.read())
    handler = None
    if with_handler:
        bootstrap.prepare()
        handler = bootstrap.load(os.environ.get("_HANDLER", ""))
        reason = bears_forks()
        if reason:
            sys.exit("the handler's module cannot be in a template: " + reason)
    launcher = os.getppid()
    control = bootstrap.socket.socket(bootstrap.socket.AF_UNIX, bootstrap.socket.SOCK_STREAM, 0, os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    size = struct.calcsize("3i")
    room_for_fds = bootstrap.socket.CMSG_SPACE(size)
    gc.collect()
    gc.freeze()
    control.send(b"r")
    while True:
        asked, fds, _, _ = control.recvmsg(1, room_for_fds)
        if not asked:
            os._exit(0)
        if fds and fork(control, struct.unpack("3i", fds[0][2][:size]), launcher, room):
            return handler
