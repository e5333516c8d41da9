"""A sitecustomize module (see test_offline.py): note, and refuse, every connection that would leave this machine."""

import ipaddress
import json
import os
import socket


def note(what: str, target="", outside: bool = False) -> None:
    """Add a line to the log; one write, so that lines of several processes do not mix."""
    line = json.dumps({"what": what, "target": str(target), "outside": outside, "process": os.getpid()}) + "\n"
    with open(os.environ["SOCKET_GUARD_LOG"], "a", encoding="utf-8") as file:
        file.write(line)


def leaves(host) -> bool:
    """Return whether this host is another machine, or a name that only a name server could tell."""
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost"):
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


def check(what: str, host) -> None:
    """Note an attempt; raise when it leaves this machine."""
    note(what, host, leaves(host))
    if leaves(host):
        raise OSError(f"the network is closed: {what} {host}")


def guard_connections(name: str) -> None:
    """Make socket.connect or connect_ex ask first."""
    original = getattr(socket.socket, name)

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(name, address[0])
        return original(self, address)

    setattr(socket.socket, name, guarded)


def guard_names(name: str) -> None:
    """Make a look-up of names ask first."""
    original = getattr(socket, name)

    def guarded(host, *arguments, **options):
        check(name, host)
        return original(host, *arguments, **options)

    setattr(socket, name, guarded)


for method in ("connect", "connect_ex"):
    guard_connections(method)
for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
    guard_names(function)
note("start")
