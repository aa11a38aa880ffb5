#!/usr/bin/env python3
"""usage: passed-socket.py tcp|unix:PATH|udp PROGRAM ARGUMENTS...

Plays the part of systemd: opens a socket, and starts the program with the socket as descriptor 3. After the end of the
program it prints "ended CODE", and starts it again for each line on standard input.
"""

import ctypes
import os
import signal
import socket
import sys

kind, program = sys.argv[1], sys.argv[2:]
if kind.startswith("unix:"):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(kind.removeprefix("unix:"))
else:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
if kind != "udp":
    listening.listen(4096)

while True:
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with this program
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ.setdefault("LISTEN_FDS", "1")
        if listening.fileno() != 3:
            os.dup2(listening.fileno(), 3)
        os.set_inheritable(3, True)
        os.execv(program[0], program)
    print("started", pid, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    if not sys.stdin.readline():
        sys.exit()
