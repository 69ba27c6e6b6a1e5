"""telnetlib3 as a client: `telnetlib3_client.py SCENARIO PORT`. The server it meets says `done` when it is."""

import asyncio
import functools
import sys

from telnetlib3 import TelnetClient, open_connection
from telnetlib3.telopt import (
    AO, AYT, BINARY, BRK, CHARSET, CMD_EOR, DM, DO, EC, ECHO, EL, EOF, EOR, GA, IAC, IP, LFLOW, LINEMODE, MSSP,
    NAWS, NEW_ENVIRON, NOP, SGA, SNDLOC, STATUS, SUSP, ABORT, TM, TSPEED, TTYPE, WILL, XDISPLOC,
)  # fmt: skip
from telnetlib3.slc import SLC_EC, SLC_IP

from referee import EAR, run, verdict

DONE = b"done\r\n"
UNKNOWN = bytes([99])


class Client(TelnetClient):
    """A client that is told how to answer before it is asked."""

    def __init__(self, prepare, **options):
        super().__init__(**options)
        self.prepare = prepare

    def connection_made(self, transport):
        super().connection_made(transport)
        self.prepare(self.writer)


async def connect(port, prepare=lambda writer: None, **options):
    options = {"encoding": False, "connect_minwait": 0, "connect_maxwait": 0, **options}
    factory = functools.partial(Client, prepare)
    return await open_connection("127.0.0.1", port, client_factory=factory, **options)


async def echo(port):
    reader, writer = await connect(port)
    await reader.readuntil(DONE)
    writer.write(b"hi\r\n")
    heard = await reader.readline()
    verdict(writer, mode=writer.mode, heard=heard.decode())


async def binary(port):
    every = bytes(range(256))
    reader, writer = await connect(port)
    await writer.wait_for(local={"BINARY": True}, remote={"BINARY": True})
    writer.write(every)
    echoed = await reader.readexactly(len(every))
    verdict(writer, same=echoed == every)


async def window(port):
    reader, writer = await connect(port, cols=255, rows=511)
    await writer.wait_for(local={"NAWS": True})
    writer.set_ext_send_callback(NAWS, lambda: (24, 65535))
    writer._send_naws()
    await reader.readuntil(DONE)
    verdict(writer)


async def terminal(port):
    names = iter(["MUDLET", "XTERM-256COLOR", "MTTS 137"])
    prepare = lambda writer: writer.set_ext_send_callback(TTYPE, lambda: next(names))
    reader, writer = await connect(port, prepare)
    await reader.readuntil(DONE)
    verdict(writer, left=list(names))


async def terminal_with_one_name(port):
    reader, writer = await connect(port, term="vt100")
    await reader.readuntil(DONE)
    verdict(writer)


async def linemode(port):
    reader, writer = await connect(port)
    await reader.readuntil(DONE)
    ours = writer.slctab[SLC_IP]
    writer.write(b"edited\r\n")
    await reader.readuntil(DONE)
    verdict(
        writer,
        mode=writer.mode,
        mask=ord(writer.linemode.mask),
        interrupt=[ord(ours.level), ord(ours.val)],
        erase=[ord(writer.slctab[SLC_EC].level), ord(writer.slctab[SLC_EC].val)],
    )


async def environment(port):
    # telnetlib3 escapes VAR and USERVAR, and neither VALUE, ESC nor IAC.
    values = {"USER": "o'brien", "ODD": "\x00\x03 \x00"}

    def prepare(writer):
        writer.set_ext_send_callback(NEW_ENVIRON, lambda names: {n: values.get(n, "") for n in names} or values)

    reader, writer = await connect(port, prepare)
    await reader.readuntil(DONE)
    verdict(writer)


async def charset(port):
    reader, writer = await connect(port, encoding="utf-8")
    await reader.readuntil(DONE)
    writer.write("grüße\r\n")
    heard = await reader.readline()
    verdict(writer, charset=writer.get_extra_info("charset"), encoding=writer.environ_encoding, heard=heard)


async def charset_asked_by_both(port):
    def prepare(writer):
        writer.set_ext_offer_callback(CHARSET, lambda: ["ISO-8859-1"])
        # Before the server's request has come.
        writer.add_will_callback(CHARSET, lambda option: writer.request_charset())

    reader, writer = await connect(port, prepare, encoding="utf-8")
    await reader.readuntil(DONE)
    verdict(writer, encoding=writer.environ_encoding)


async def charset_asked_by_the_client(port):
    chosen = asyncio.Event()
    reader, writer = await connect(port)
    writer.set_ext_offer_callback(CHARSET, lambda: ["KOI8-R", "utf-8"])
    writer.set_ext_callback(CHARSET, lambda name: chosen.set())
    writer.iac(WILL, CHARSET)
    await writer.wait_for(local={"CHARSET": True})
    writer.request_charset()
    await chosen.wait()
    verdict(writer, encoding=writer.environ_encoding)


async def status(port):
    reader, writer = await connect(port)
    await reader.readuntil(DONE)
    EAR.statuses.clear()
    writer.iac(DO, STATUS)
    await writer.wait_for(remote={"STATUS": True})
    writer.write(b"more\r\n")
    await reader.readuntil(DONE)
    verdict(writer, statuses=EAR.statuses)


async def timing_mark(port):
    marked = asyncio.Event()
    reader, writer = await connect(port)
    writer.set_iac_callback(TM, lambda verb: marked.set() if verb == WILL else None)
    await reader.readuntil(DONE)
    writer.write(b"one\r\n")
    writer.iac(DO, TM)
    writer.write(b"two\r\n")
    await marked.wait()
    await reader.readuntil(DONE)
    verdict(writer)


async def record(port):
    ended = asyncio.Event()
    reader, writer = await connect(port, lambda writer: writer.set_iac_callback(CMD_EOR, lambda _: ended.set()))
    await ended.wait()
    await writer.wait_for(local={"EOR": True})
    writer.write(b"record")
    writer.send_eor()
    writer.write(b"\r\n")
    await reader.readuntil(DONE)
    verdict(writer)


async def refusals(port):
    reader, writer = await connect(port)
    for option in (XDISPLOC, TSPEED, LFLOW, SNDLOC, UNKNOWN):
        writer.iac(WILL, option)
    for option in (LINEMODE, ECHO, UNKNOWN):
        writer.iac(DO, option)
    writer.write(b"all\r\n")
    await reader.readuntil(DONE)
    verdict(writer, pending=[key.hex() for key, waits in writer.pending_option.items() if waits])


async def commands(port):
    reader, writer = await connect(port)
    for command in (NOP, DM, BRK, IP, AO, AYT, EC, EL, GA, EOF, SUSP, ABORT):
        writer.send_iac(IAC + command)
    writer.write(b"all\r\n")
    await reader.readuntil(DONE)
    verdict(writer)


async def gmcp(port):
    def prepare(writer):
        writer.environ_encoding = "utf-8"

    reader, writer = await connect(port, prepare)
    await reader.readuntil(DONE)
    verdict(writer, told=writer.ctx.gmcp_data)


async def server_status(port):
    reader, writer = await connect(port, lambda writer: writer.always_do.add(MSSP))
    await reader.readuntil(DONE)
    verdict(writer, told=writer.mssp_data)


async def compressed_by_the_server(port):
    reader, writer = await connect(port)
    lines, inflating = [], []
    for say in (None, None, b"end\r\n", b"again\r\n", None):
        if say:
            writer.write(say)
        lines.append((await reader.readline()).decode())
        inflating.append(writer.protocol._mccp2_decompressor is not None)
    verdict(writer, lines=lines, inflating=inflating)


async def compressed_by_the_client(port):
    reader, writer = await connect(port)
    await writer.wait_for(remote={"MCCP3_COMPRESS": True})
    await reader.readuntil(DONE)
    assert writer.mccp3_active
    writer.write(b"squeezed\r\n" * 100)
    await reader.readuntil(DONE)
    writer.protocol._mccp3_end()
    writer.write(b"plain\r\n")
    await reader.readuntil(DONE)
    verdict(writer)


PROMPT = b"megamux> "


async def console_by_keys(port):
    reader, writer = await connect(port, term="xterm", cols=70, rows=10, encoding="utf-8", force_binary=True)
    await reader.readuntil(PROMPT)
    await writer.wait_for(local={"NAWS": True, "TTYPE": True}, remote={"ECHO": True, "SGA": True})
    # The Tab key completes it.
    writer.write("hel\t\r")
    page = await reader.readuntil(b"--more--")
    writer.write("q")
    await reader.readuntil(PROMPT)
    writer.set_ext_send_callback(NAWS, lambda: (7, 70))
    writer._send_naws()
    writer.write("help\r")
    shorter = await reader.readuntil(b"--more--")
    writer.write("q")
    await reader.readuntil(PROMPT)
    writer.write("quit\r")
    farewell = await reader.readuntil(b"good-bye")
    verdict(
        writer,
        mode=writer.mode,
        pages=[page.count(b"\n"), shorter.count(b"\n")],
        farewell=farewell.endswith(b"good-bye"),
    )


async def console_by_lines(port):
    def prepare(writer):
        writer.always_dont.update({ECHO, SGA})

    reader, writer = await connect(port, prepare)
    await reader.readuntil(PROMPT)
    writer.iac(WILL, LINEMODE)
    await writer.wait_for(local={"LINEMODE": True})
    await writer.wait_for_condition(lambda writer: writer.linemode.edit)
    writer.write(b"help quit\r\n")
    said = await reader.readuntil(PROMPT)
    # RFC 1184: the terminal makes a command of the key.
    writer.write(b"watch -n 1 whoami\r\n")
    await reader.readuntil(b"nobody asks")
    writer.send_iac(IAC + IP)
    await reader.readuntil(PROMPT)
    writer.write(b"quit\r\n")
    await reader.readuntil(b"good-bye")
    verdict(writer, mode=writer.mode, mask=ord(writer.linemode.mask) & 3, said=said.decode())


async def match(scenario, port):
    await globals()[scenario](port)


run(match(sys.argv[1], int(sys.argv[2])))
