"""Relays of TCP, which cut a collector off from one server, or a tenant from the service, while everything else goes on."""

import asyncio
import threading


class Relay:
    """Carries connections to a port on loopback. `open` carries bytes, `closed` ends all connections and takes none, and `silent`
    keeps them and takes new ones, but carries nothing, as a network that loses packets or a machine that hangs."""

    def __init__(self, target):
        self.target, self.way, self.transports = target, "open", set()
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(ready)), daemon=True).start()
        ready.wait()

    async def serve(self, ready):
        self.loop, self.flows = asyncio.get_running_loop(), asyncio.Event()
        self.flows.set()
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    def turn(self, way):
        """Changes the way of the relay, and returns when that is done."""

        def change():
            self.way = way
            if way == "silent":
                self.flows.clear()
            else:
                self.flows.set()
            if way == "closed":
                for transport in list(self.transports):
                    transport.abort()
            done.set()

        done = threading.Event()
        self.loop.call_soon_threadsafe(change)
        done.wait()

    async def accept(self, reader, writer):
        self.transports.add(writer.transport)
        other = None
        try:
            await self.flows.wait()
            if self.way == "closed":
                return
            other_reader, other = await asyncio.open_connection("127.0.0.1", self.target)
            self.transports.add(other.transport)
            await asyncio.gather(self.carry(reader, other), self.carry(other_reader, writer))
        except OSError:
            pass
        finally:
            for one in (writer, other):
                if one is not None:
                    one.transport.abort()
                    self.transports.discard(one.transport)

    async def carry(self, reader, writer):
        while data := await reader.read(1 << 16):
            await self.flows.wait()
            writer.write(data)
            await writer.drain()
        await self.flows.wait()
        if writer.can_write_eof():
            writer.write_eof()
