"""Python's zlib as the judge of compressed streams: `zlib_peer.py SCENARIO PORT` meets a server, or says where it listens.

It speaks telnet with bare hands, so that it decides what a packet holds. `read N` on stdout asks that so many bytes have
been read by the other end before the next are sent; a line on stdin says that they have.
"""

import json
import socket
import sys
import zlib

IAC, SB, SE, WILL, DO, AYT = b"\xff", b"\xfa", b"\xf0", b"\xfb", b"\xfd", b"\xf6"
MCCP2, MCCP3 = b"\x56", b"\x57"
DEADLINE = 15


def start(option):
    return IAC + SB + option + IAC + SE


class Peer:
    """A connection, and how many bytes went through all of them."""

    sent = 0

    def __init__(self, connection):
        connection.settimeout(DEADLINE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.received = b""
        self.inflate = None
        self.ends = 0

    def send(self, *packets):
        """Sends each so that the other end sees it by itself."""
        for packet in packets:
            self.connection.sendall(packet)
            Peer.sent += len(packet)
            print("read", Peer.sent, flush=True)
            sys.stdin.readline()

    def more(self):
        data = self.connection.recv(65536)
        if not data:
            raise EOFError(self.received)
        while data and self.inflate:
            self.received += self.inflate.decompress(data)
            if not self.inflate.eof:
                return
            data, self.inflate, self.ends = self.inflate.unused_data, None, self.ends + 1
            self.begin(data)
            return
        self.begin(data)

    def begin(self, data):
        """Takes bytes that are not compressed, up to where compression begins."""
        self.received += data
        for option in (MCCP2, MCCP3):
            before, begins, rest = self.received.partition(start(option))
            if begins:
                self.received, self.inflate = before, zlib.decompressobj()
                if rest:
                    self.received += self.inflate.decompress(rest)

    def until(self, end):
        while end not in self.received:
            self.more()
        before, _, self.received = self.received.partition(end)
        return before


def met(port):
    return Peer(socket.create_connection(("127.0.0.1", port), DEADLINE))


def stream(text, level, flush=zlib.Z_FINISH):
    deflate = zlib.compressobj(level)
    return deflate.compress(text) + deflate.flush(flush)


def from_the_client(port):
    """MCCP3: a start, a stream, its end, plain text and a second start, cut at each byte; and all of it in single bytes."""
    said = start(MCCP3) + stream(b"one\r\n", 9) + b"two\r\n" + start(MCCP3) + stream(b"three\r\n", 1) + b"four\r\n"
    cuts = [[at] for at in range(1, len(said))] + [list(range(1, len(said)))]
    for cut in cuts:
        peer = met(port)
        peer.until(IAC + WILL + MCCP3)
        peer.send(IAC + DO + MCCP3)
        edges = [0, *cut, len(said)]
        peer.send(*(said[a:b] for a, b in zip(edges, edges[1:])))
        peer.until(b"done\r\n")
        peer.connection.close()
    return {"matches": len(cuts)}


def from_the_server(port):
    """MCCP2: what the server sends is inflated, through an end and a second start, over many reads."""
    peer = met(port)
    peer.until(IAC + WILL + MCCP2)
    peer.send(IAC + DO + MCCP2)
    lengths = []
    for ask in (b"much\r\n", b"end\r\n", b"again\r\n", b"much\r\n"):
        peer.send(ask)
        text = peer.until(b"done\r\n")
        lengths.append([text.count(b"\r\n"), peer.inflate is not None, peer.ends])
    return {"lengths": lengths}


def both_at_once(port):
    """MCCP2 and MCCP3 on one connection."""
    peer = met(port)
    peer.until(IAC + WILL + MCCP3)
    peer.send(IAC + DO + MCCP2 + IAC + DO + MCCP3)
    deflate = zlib.compressobj(6)
    peer.send(start(MCCP3) + deflate.compress(b"who\r\n") + deflate.flush(zlib.Z_SYNC_FLUSH))
    text = peer.until(b"done\r\n")
    peer.send(deflate.compress(b"last\r\n") + deflate.flush(zlib.Z_FINISH) + b"plain\r\n")
    text += peer.until(b"done\r\n")
    return {"text": text.decode(), "inflating": peer.inflate is not None}


def damaged(port):
    """Each of these ends the connection, and no other: a start that was not agreed to, one within a stream, no zlib."""
    agreed = IAC + DO + MCCP3
    for said in (start(MCCP3), agreed + start(MCCP3) + stream(start(MCCP3), 6), agreed + start(MCCP3) + b"no zlib"):
        peer = met(port)
        peer.until(IAC + WILL + MCCP3)
        peer.connection.sendall(said)
        try:
            peer.until(b"never")
        except (EOFError, ConnectionResetError):
            continue
    return {}


def to_the_client(listener):
    """MCCP2 for a client: cut at each byte, as above."""
    once = start(MCCP2) + stream(b"one\r\n", 9) + b"two\r\n"
    said = b"a\r\n" + once + start(MCCP2) + stream(b"three\r\n", 1) + b"four" + IAC + AYT
    cut = int(sys.argv[2])
    peer = Peer(listener.accept()[0])
    peer.send(IAC + WILL + MCCP2)
    peer.until(IAC + DO + MCCP2)
    edges = [0, *([cut] if cut else range(1, len(said))), len(said)]
    peer.send(*(said[a:b] for a, b in zip(edges, edges[1:])))
    peer.until(b"read\r\n")
    return {"bytes": len(said)}


def of_the_client(listener):
    """MCCP3 of a client is inflated, through an end and a second start."""
    peer = Peer(listener.accept()[0])
    peer.send(IAC + WILL + MCCP3)
    lines, inflating = [], []
    for ask in (b"much\r\n", b"end\r\n", b"again\r\n"):
        peer.send(ask)
        lines.append(peer.until(b"done\r\n").count(b"\r\n"))
        inflating.append(peer.inflate is not None)
    return {"lines": lines, "inflating": inflating, "ends": peer.ends}


def main(scenario):
    if scenario in (to_the_client, of_the_client):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(DEADLINE)
            print(listener.getsockname()[1], flush=True)
            found = scenario(listener)
    else:
        found = scenario(int(sys.argv[2]))
    print(json.dumps(found), flush=True)


main(globals()[sys.argv[1]])
