#!/usr/bin/env python3
"""A QMP client in the standard library alone.

    roost ... -qmp unix:/tmp/vm.qmp,server=on,wait=off &
    ./qmp_client.py /tmp/vm.qmp query-status
    ./qmp_client.py /tmp/vm.qmp qom-get path=/machine property=type
    ./qmp_client.py /tmp/vm.qmp --wait SHUTDOWN --timeout 30

As a module: with Qmp("/tmp/vm.qmp") as q: q.execute("stop")
"""
import argparse
import collections
import json
import socket
import sys
import time


class QmpError(Exception):
    """The VM refused a command; `error_class` is QMP's word."""

    def __init__(self, error):
        super().__init__(error.get("desc", "no description"))
        self.error_class = error.get("class", "GenericError")


class Qmp:
    """One connection. Events that come while a reply is awaited are kept."""

    def __init__(self, path, timeout=10.0):
        self.events = collections.deque()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.lines = b""
        self.greeting = self._message()["QMP"]
        self.execute("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def _message(self):
        while b"\n" not in self.lines:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the VM has closed its QMP socket")
            self.lines += data
        line, self.lines = self.lines.split(b"\n", 1)
        return json.loads(line)

    def execute(self, command, **arguments):
        """Run a command; what stands behind "return", or QmpError."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.sock.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = self._message()
            if "event" in reply:
                self.events.append(reply)
            elif "error" in reply:
                raise QmpError(reply["error"])
            else:
                return reply["return"]

    def wait_event(self, name, timeout=10.0):
        """The next event of that name; TimeoutError when none comes."""
        end = time.monotonic() + timeout
        while True:
            while self.events:
                event = self.events.popleft()
                if event["event"] == name:
                    return event
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no event {name} within {timeout:g} s")
            self.sock.settimeout(left)
            try:
                message = self._message()
            except socket.timeout:
                continue
            if "event" in message:
                self.events.append(message)


def value(text):
    """k=v from the command line: JSON where it is, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main():
    args = argparse.ArgumentParser(description="Talk QMP to a VM.")
    args.add_argument("socket", help="path of the unix socket")
    args.add_argument("command", nargs="?", help="for example query-status")
    args.add_argument("argument", nargs="*", help="KEY=VALUE of the command")
    args.add_argument("--wait", metavar="EVENT", help="then wait for an event")
    args.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS")
    a = args.parse_args()
    arguments = dict(word.split("=", 1) for word in a.argument)
    try:
        with Qmp(a.socket) as q:
            if a.command:
                parsed = {k: value(v) for k, v in arguments.items()}
                print(json.dumps(q.execute(a.command, **parsed), indent=2))
            if a.wait:
                print(json.dumps(q.wait_event(a.wait, a.timeout), indent=2))
    except QmpError as error:
        sys.exit(f"{error.error_class}: {error}")
    except (OSError, EOFError) as error:
        sys.exit(f"{a.socket}: {error}")


if __name__ == "__main__":
    main()
