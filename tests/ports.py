"""Free ports for programs that have to be told one. A port that the system chooses is no longer free once its socket is
closed: the next client may get it. These ports are therefore outside the range from which the system chooses."""

import random
import socket
from pathlib import Path

SYSTEMS = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST = 10_000

# While such a socket is open, no other trial gets its port. The system closes it with the process.
CLAIMS = []


def free_port():
    """Returns a port where nobody listens, and that no other trial gets before this process ends."""
    end = int(SYSTEMS.read_text().split()[0])
    for port in random.sample(range(FIRST, end), end - FIRST):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0source-trials-port-{port}")
            with socket.socket() as probe:
                # Old connections of a port do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        CLAIMS.append(claim)
        return port
    raise OSError(f"no port from {FIRST} to {end - 1} is free")
