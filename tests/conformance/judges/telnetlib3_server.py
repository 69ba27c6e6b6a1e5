"""telnetlib3 as a server: `telnetlib3_server.py SCENARIO`. It says where it listens, then its verdict."""

import asyncio
import sys

from telnetlib3 import TelnetServer
from telnetlib3.server_base import BaseServer
from telnetlib3.slc import SLC_IP, SLC_VARIABLE
from telnetlib3.telopt import (
    BINARY, CHARSET, CMD_EOR, DO, ECHO, EOR, GMCP, LFLOW, LINEMODE, MCCP2_COMPRESS, MCCP3_COMPRESS, MSSP, NAWS,
    NEW_ENVIRON, SGA, SNDLOC, STATUS, TM, TSPEED, TTYPE, USERVAR, VAR, WILL, XDISPLOC,
)  # fmt: skip

from referee import EAR, run, verdict


class Server(TelnetServer):
    """A server that asks for nothing by itself: the scenario does."""

    def begin_negotiation(self):
        BaseServer.begin_negotiation(self)

    def begin_advanced_negotiation(self):
        pass

    def check_negotiation(self, final=False):
        return True


class Heard(asyncio.Queue):
    """What a callback was called with."""

    def __call__(self, *said):
        self.put_nowait(said[0] if len(said) == 1 else list(said))

    async def several(self, count):
        return [await self.get() for _ in range(count)]


async def echo(reader, writer):
    writer.iac(WILL, ECHO)
    writer.iac(WILL, SGA)
    await writer.wait_for(local={"ECHO": True, "SGA": True})
    writer.write(b"login: ")
    writer.write(b"hi\r\n")
    heard = await reader.readline()
    verdict(writer, mode=writer.mode, heard=heard.decode())


async def binary(reader, writer):
    every = bytes(range(256))
    writer.iac(WILL, BINARY)
    writer.iac(DO, BINARY)
    await writer.wait_for(local={"BINARY": True}, remote={"BINARY": True})
    writer.write(every)
    echoed = await reader.readexactly(len(every))
    verdict(writer, same=echoed == every)


async def window(reader, writer):
    heard = Heard()
    writer.set_ext_callback(NAWS, heard)
    writer.iac(DO, NAWS)
    sizes = [await heard.get()]
    writer.write(b"wider\r\n")
    sizes.append(await heard.get())
    verdict(writer, sizes=sizes)


async def terminal(reader, writer):
    heard = Heard()
    writer.set_ext_callback(TTYPE, heard)
    writer.iac(DO, TTYPE)
    names = [await heard.get()]
    for _ in range(4):
        writer.request_ttype()
        names.append(await heard.get())
    verdict(writer, names=names)


async def linemode(reader, writer):
    writer.iac(DO, LINEMODE)
    await writer.wait_for(remote={"LINEMODE": True})
    writer.request_linemode_change(edit=True, trapsig=True)
    line = await reader.readline()
    key = writer.slctab[SLC_IP]
    verdict(
        writer,
        mask=ord(writer.linemode.mask),
        ack=bool(writer.linemode.ack),
        line=line.decode(),
        interrupt=[key.level == SLC_VARIABLE, ord(key.val)],
    )


async def environment(reader, writer):
    heard = Heard()
    writer.set_ext_callback(NEW_ENVIRON, heard)
    writer.set_ext_offer_callback(NEW_ENVIRON, lambda: ["USER", "DISPLAY", VAR, USERVAR])
    writer.iac(DO, NEW_ENVIRON)
    told = [await heard.get()]
    writer.write(b"change\r\n")
    told.append(await heard.get())
    # It is an INFO; telnetlib3 has its test for that the wrong way round.
    EAR.complaints.remove("NEW_ENVIRON IS already recv; expected INFO.")
    verdict(writer, told=told)


async def charset(reader, writer):
    heard = Heard()
    writer.set_ext_callback(CHARSET, heard)
    writer.set_ext_offer_callback(CHARSET, lambda: ["KOI8-R", "UTF-8", "US-ASCII"])
    writer.iac(DO, CHARSET)
    name = await heard.get()
    verdict(writer, name=name)


async def charset_asked_by_the_client(reader, writer):
    offers = Heard()
    writer.set_ext_send_callback(CHARSET, lambda offered: offers(*offered) or "US-ASCII")
    # The client asks at once, this server never.
    writer.request_charset = lambda: False
    writer.iac(DO, CHARSET)
    offered = await offers.get()
    line = await reader.readline()
    verdict(writer, offered=offered, encoding=writer.environ_encoding, line=line.decode())


async def status(reader, writer):
    writer.iac(WILL, SGA)
    writer.iac(DO, NAWS)
    writer.iac(DO, STATUS)
    await writer.wait_for(local={"SGA": True}, remote={"NAWS": True, "STATUS": True})
    await writer.wait_for_condition(lambda writer: not writer.pending_option.get(b"\xfa\x05"))
    writer.iac(WILL, STATUS)
    line = await reader.readline()
    verdict(writer, statuses=EAR.statuses, line=line.decode())


async def timing_mark(reader, writer):
    marked = Heard()
    writer.set_iac_callback(TM, lambda verb: marked(verb.hex()))
    writer.write(b"one\r\n")
    writer.iac(DO, TM)
    answer = await marked.get()
    line = await reader.readline()
    verdict(writer, answer=answer, asked=await marked.get(), line=line.decode())


async def record(reader, writer):
    heard = Heard()
    writer.set_iac_callback(CMD_EOR, heard)
    writer.iac(WILL, EOR)
    writer.iac(DO, EOR)
    await writer.wait_for(local={"EOR": True}, remote={"EOR": True})
    writer.write(b"record")
    writer.send_eor()
    await heard.get()
    verdict(writer, line=(await reader.readline()).decode())


async def refusals(reader, writer):
    for option in (XDISPLOC, TSPEED, LFLOW, SNDLOC, ECHO):
        writer.iac(DO, option)
    writer.iac(DO, TM)
    answered = Heard()
    writer.set_iac_callback(TM, answered)
    await answered.get()
    verdict(writer, pending=[key.hex() for key, waits in writer.pending_option.items() if waits and TM not in key])


async def gmcp(reader, writer):
    heard = Heard()
    writer.set_ext_callback(GMCP, heard)
    writer.iac(WILL, GMCP)
    await writer.wait_for(local={"GMCP": True})
    writer.send_gmcp("Char.Vitals", {"hp": 7})
    verdict(writer, told=await heard.several(2))


async def server_status(reader, writer):
    writer.iac(WILL, MSSP)
    await writer.wait_for(local={"MSSP": True})
    writer.send_mssp({"NAME": "telnetlib3", "PORT": ["23", "4000"]})
    verdict(writer, line=(await reader.readline()).decode())


async def compressed_by_the_server(reader, writer):
    writer.iac(WILL, MCCP2_COMPRESS)
    await writer.wait_for(local={"MCCP2_COMPRESS": True})
    for _ in range(2):
        writer.write(b"plain\r\n")
        writer.protocol._mccp2_start()
        writer.write(b"squeezed\r\n" * 100)
        writer.protocol._mccp2_end()
    writer.write(b"last\r\n")
    verdict(writer, line=(await reader.readline()).decode())


async def compressed_by_the_client(reader, writer):
    # Otherwise telnetlib3 offers it and then refuses the answer.
    writer.always_will.add(MCCP3_COMPRESS)
    writer.iac(WILL, MCCP3_COMPRESS)
    await writer.wait_for(local={"MCCP3_COMPRESS": True})
    lines, inflating = [], []
    # telnetlib3 looks for the start behind what it has received at once; so the client says more only when asked.
    for ask in (b"squeeze\r\n", b"end\r\n", b"plain\r\n"):
        writer.write(ask)
        lines.append((await reader.readline()).decode())
        inflating.append(writer.protocol._mccp3_decompressor is not None)
    verdict(writer, lines=lines, inflating=inflating)


async def match(scenario):
    over = asyncio.get_running_loop().create_future()

    async def shell(reader, writer):
        try:
            await globals()[scenario](reader, writer)
            over.set_result(None)
        except Exception as error:
            over.set_exception(error)
        writer.close()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(shell=shell, encoding=False, connect_maxwait=0), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over


run(match(sys.argv[1]))
