#!/usr/bin/env python3
"""One attack on a server of this machine, until standard input ends.

usage: attacker.py PORT ATTACK KEY ID SECRET [COUNT]

It prints "full" when it does all that it can, and a line of JSON about what it met at the end. Connections that the
server closes are counted and made again while the attack lasts, a few at a time.
"""
import base64
import collections
import hashlib
import hmac
import json
import os
import resource
import select
import socket
import sys
import time

OPENING_AT_ONCE = 100
AGAIN_AFTER_S = 0.5
BODY_BYTES = 10 * 1024 * 1024 - 1
FULL_AFTER_S = 30  # of trying


class Peer:
    """A connection: bytes to send, what was received first, and what to do when the server has answered."""

    def __init__(self, attack):
        self.attack = attack
        self.out = collections.deque()
        self.received = b""
        self.established = False
        self.reads = True
        self.done = False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect_ex(("127.0.0.1", attack.port))


class Attack:
    """What an attack sends. A subclass says how many connections it has and what each sends."""

    connections = 0
    websocket = True
    compressed = False

    def __init__(self, port, key, app_id, secret, count):
        self.port, self.key, self.app_id, self.secret = port, key, app_id, secret
        self.connections = count or self.connections
        self.counts = collections.Counter()

    def first(self, peer):
        """The first bytes of a connection."""
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if self.compressed else ""
        return (
            f"GET /app/{self.key}?protocol=7 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"{extension}\r\n"
        ).encode()

    def then(self, peer):
        """What follows once the connection is established; bytes, one piece after the other."""
        return []

    def each_turn(self):
        """Called some ten times a second."""

    def signed(self, path, body):
        query = (
            f"auth_key={self.key}&auth_timestamp={int(time.time())}&auth_version=1.0"
            f"&body_md5={hashlib.md5(body).hexdigest()}"
        )
        text = f"POST\n{path}\n{query}".encode()
        return f"{path}?{query}&auth_signature={hmac.new(self.secret.encode(), text, hashlib.sha256).hexdigest()}"


def frame(payload):
    """A masked text frame; the mask is zero, so the payload is sent as it is."""
    length = len(payload)
    if length < 126:
        head = bytes([0x81, 0x80 | length])
    elif length < 65536:
        head = bytes([0x81, 0xFE]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x81, 0xFF]) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


def subscribe(channel):
    return frame(json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}}).encode())


class UnknownBodies(Attack):
    """Large bodies for an app that does not exist, a byte short of their end."""

    connections = 60
    websocket = False

    def first(self, peer):
        head = f"POST /apps/nobody/events HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        return head.encode() + bytes(BODY_BYTES - 1)


class SignedBodies(Attack):
    """The same with a right signature: a customer who means ill."""

    connections = 60
    websocket = False
    body = None

    def first(self, peer):
        if SignedBodies.body is None:
            SignedBodies.body = b" " * BODY_BYTES
        target = self.signed(f"/apps/{self.app_id}/events", self.body)
        head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        return head.encode() + self.body[:-1]


class Channels(Attack):
    """Thousands of channels from each connection."""

    connections = 80
    each = 10000

    def then(self, peer):
        number = self.counts["numbered"]
        self.counts["numbered"] += 1
        for first in range(0, self.each, 200):
            yield b"".join(subscribe(f"channel-of-an-attack-{number}-{i}") for i in range(first, first + 200))


class KeptEvents(Attack):
    """Large events for cache channels, kept for an hour."""

    connections = 4
    websocket = False
    publishes = 100

    def first(self, peer):
        pieces = []
        for _ in range(self.publishes // self.connections):
            number = self.counts["publishes"]
            self.counts["publishes"] += 1
            channels = [f"cache-attack-{number}-{i}" for i in range(100)]
            body = json.dumps({"name": "e", "channels": channels, "data": "x" * 100000}).encode()
            target = self.signed(f"/apps/{self.app_id}/events", body)
            pieces.append(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return b"".join(pieces)


class Connects(Attack):
    """Connections that ask for compression, and are made again as often as they are refused."""

    connections = 1500
    compressed = True


class HalfFrames(Attack):
    """The first 50 KB of a frame of 60 KB, on each of many connections."""

    connections = 10000

    def then(self, peer):
        yield frame(b" " * 60000)[:50000]


class HalfMessages(Attack):
    """Fragments of a message that does not end."""

    connections = 1000

    def then(self, peer):
        for i in range(12):
            head = 0x01 if i == 0 else 0x00
            yield bytes([head, 0xFE]) + (4096).to_bytes(2, "big") + bytes(4) + b" " * 4096


class Flood(Attack):
    """Messages without end that are slow to read and need no answer."""

    connections = 500

    def then(self, peer):
        message = frame(b'{"event":"pusher:pong","data":"' + b"\\u0041" * 9990 + b'"}')
        while True:
            self.counts["sent"] += 1
            yield message


class SlowReaders(Attack):
    """Subscribers that do not read, of a channel that the attacker publishes to."""

    connections = 5000

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.publisher = None

    def then(self, peer):
        peer.reads = False
        yield subscribe("feed-of-an-attack")

    def each_turn(self):
        body = json.dumps({"name": "e", "channel": "feed-of-an-attack", "data": "x" * 9000}).encode()
        target = self.signed(f"/apps/{self.app_id}/events", body)
        head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        try:
            if self.publisher is None:
                self.publisher = socket.create_connection(("127.0.0.1", self.port), 10)
            self.publisher.sendall(head + body)
            self.counts[self.publisher.recv(4096)[9:12].decode()] += 1
        except OSError:
            self.publisher = None
            self.counts["failed publishes"] += 1


ATTACKS = {
    "unknown-bodies": UnknownBodies,
    "signed-bodies": SignedBodies,
    "channels": Channels,
    "kept-events": KeptEvents,
    "connects": Connects,
    "half-frames": HalfFrames,
    "half-messages": HalfMessages,
    "flood": Flood,
    "slow-readers": SlowReaders,
}


class Loop:
    def __init__(self, attack):
        self.attack = attack
        self.poll = select.epoll()
        self.peers = {}
        self.again_at = 0.0
        self.begun = time.monotonic()
        self.told = False
        self.dropped = 0

    def open_some(self):
        missing = self.attack.connections - len(self.peers)
        opening = sum(1 for peer in self.peers.values() if not peer.done) if missing else 0
        for _ in range(min(missing, OPENING_AT_ONCE - min(OPENING_AT_ONCE, opening))):
            peer = Peer(self.attack)
            peer.out.append(memoryview(self.attack.first(peer)))
            peer.more = iter(())
            self.peers[peer.socket.fileno()] = peer
            self.poll.register(peer.socket, select.EPOLLOUT | select.EPOLLIN)

    def drop(self, peer, why):
        self.attack.counts[why] += 1
        self.dropped += 1
        self.poll.unregister(peer.socket)
        del self.peers[peer.socket.fileno()]
        peer.socket.close()
        self.again_at = time.monotonic() + AGAIN_AFTER_S

    def set_events(self, peer):
        events = (select.EPOLLIN if peer.reads else 0) | (select.EPOLLOUT if peer.out else 0)
        self.poll.modify(peer.socket, events)

    def read(self, peer):
        data = peer.socket.recv(65536)
        if not data:
            self.drop(peer, "closed: " + peer.received.split(b"\r\n")[0].decode(errors="replace")[:40])
            return
        if len(peer.received) < 1000:
            peer.received += data
        if not self.attack.websocket:
            peer.done = True
            self.attack.counts["answers"] += data.count(b"HTTP/1.1 ")
        elif not peer.established and b"\r\n\r\n" in peer.received:
            peer.established = peer.done = True
            peer.more = iter(self.attack.then(peer))
            self.attack.counts["established"] += 1
            self.send_more(peer)

    def send_more(self, peer):
        while True:
            if not peer.out:
                piece = next(peer.more, None)
                if piece is None:
                    break
                peer.out.append(memoryview(piece))
            sent = peer.socket.send(peer.out[0][:262144])
            if sent == len(peer.out[0]):
                peer.out.popleft()
            else:
                peer.out[0] = peer.out[0][sent:]
        peer.done = peer.done or not self.attack.websocket
        self.set_events(peer)

    def handle(self, peer, events):
        try:
            if events & select.EPOLLOUT:
                self.send_more(peer)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self.read(peer)
        except BlockingIOError:
            if peer.socket.fileno() in self.peers:
                self.set_events(peer)
        except OSError as error:
            self.drop(peer, f"error {error.errno}")

    def is_full(self):
        waited = time.monotonic() - self.begun
        refused = self.dropped > 5 * self.attack.connections
        whole = len(self.peers) == self.attack.connections and all(
            peer.done and (not peer.out or peer.established) for peer in self.peers.values()
        )
        return whole or refused or waited > FULL_AFTER_S

    def run(self):
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        last_turn = 0.0
        while True:
            if time.monotonic() >= self.again_at:
                self.open_some()
            for number, events in self.poll.poll(0.05, 1000):
                if number == sys.stdin.fileno():
                    return
                peer = self.peers.get(number)
                if peer is not None:
                    self.handle(peer, events)
            if time.monotonic() - last_turn > 0.1:
                last_turn = time.monotonic()
                self.attack.each_turn()
                if not self.told and self.is_full():
                    self.told = True
                    print("full", flush=True)


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, name, key, app_id, secret = sys.argv[1:6]
    count = int(sys.argv[6]) if len(sys.argv) > 6 else 0
    loop = Loop(ATTACKS[name](int(port), key, app_id, secret, count))
    loop.run()
    counts = {name: number for name, number in loop.attack.counts.items() if name != "numbered"}
    print(json.dumps({"attack": name, "open": len(loop.peers), **counts}), flush=True)


main()
