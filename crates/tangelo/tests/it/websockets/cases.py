# Cases of RFC 6455 by PyPI's `websockets`, against an echo service: prints a verdict for each. What the library does not
# send by itself is written to its socket as bytes.
import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = sys.argv[1]
CASES = {}


def case(name):
    def define(run):
        CASES[name] = run
        return run

    return define


def opened(**more):
    return connect(URL, max_size=8 << 20, **{"compression": None, "proxy": None, **more})


def echoes(data):
    async def run():
        async with opened() as socket:
            await socket.send(data)
            assert await socket.recv() == data

    return run


for length in [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20]:
    CASES[f"text of {length} bytes"] = echoes("*" * length)
    CASES[f"binary of {length} bytes"] = echoes(os.urandom(length))
CASES["text of several scripts"] = echoes("κόσμε · 日本語 · \U0001f34a · \0")


@case("a message in fragments")
async def fragments():
    async with opened() as socket:
        await socket.send(["one ", "two ", "", "three"])
        assert await socket.recv() == "one two three"


@case("a ping between fragments")
async def between():
    async def parts(socket):
        yield "one "
        await (await socket.ping())
        yield "two"

    async with opened() as socket:
        await socket.send(parts(socket))
        assert await socket.recv() == "one two"


def pings(length):
    async def run():
        async with opened() as socket:
            await (await socket.ping(os.urandom(length)))

    return run


for length in [0, 1, 125]:
    CASES[f"a ping of {length} bytes"] = pings(length)


def closes(code):
    async def run():
        socket = await opened()
        await socket.close(code, "enough of it")
        assert socket.close_code == code, socket.close_code

    return run


for code in [1000, 1001, 3000, 4999]:
    CASES[f"a close with {code} and a reason"] = closes(code)


@case("a subprotocol")
async def subprotocol():
    async with opened(subprotocols=["echo.one", "echo.two"]) as socket:
        assert socket.subprotocol == "echo.two", socket.subprotocol


@case("messages that are compressed")
async def compressed():
    async with opened(compression="deflate") as socket:
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        for length in [1, 1000, 200_000]:
            await socket.send("a" * length)
            assert await socket.recv() == "a" * length


@case("many messages at once, in order")
async def many():
    async with opened() as socket:
        for n in range(500):
            await socket.send(str(n))
        assert [await socket.recv() for _ in range(500)] == [str(n) for n in range(500)]


def frame(first, payload):
    mask = bytes([1, 2, 3, 4])
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first, 0x80 | len(payload)]) + mask + body


def breaks(code, data):
    async def run():
        socket = await opened()
        socket.transport.write(data)
        try:
            await socket.recv()
        except ConnectionClosed:
            pass
        assert socket.close_code == code, socket.close_code

    return run


for name, (code, data) in {
    "a frame without a mask": (1002, bytes([0x81, 5]) + b"hello"),
    "a reserved bit": (1002, frame(0xC1, b"hello")),
    "a reserved data opcode": (1002, frame(0x83, b"hello")),
    "a reserved control opcode": (1002, frame(0x8B, b"hello")),
    "a control frame in fragments": (1002, frame(0x09, b"hello")),
    "a continuation of nothing": (1002, frame(0x80, b"hello")),
    "a new message within fragments": (1002, frame(0x01, b"one") + frame(0x81, b"two")),
    "text that is no UTF-8": (1007, frame(0x81, b"\xce\xba\xed\xa0\x80")),
    "a close of one byte": (1002, frame(0x88, b"\x03")),
    "a close with a code that is none": (1002, frame(0x88, b"\x03\xe7")),
}.items():
    CASES[name] = breaks(code, data)


async def main():
    verdicts = {}
    for name, run in CASES.items():
        try:
            await asyncio.wait_for(run(), 20)
            verdicts[name] = "as it should"
        except Exception as error:
            verdicts[name] = repr(error)
    print(json.dumps(verdicts))


asyncio.run(main())
