#!/usr/bin/env python3
"""usage: notify-socket.py PATH

Plays the part of systemd for a service with Type=notify: prints each datagram that arrives on the socket PATH.
"""

import socket
import sys

receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiving.bind(sys.argv[1])
print("listening", flush=True)
while True:
    print(receiving.recv(4096).decode(), flush=True)
