// Cases of RFC 6455 by npm's `ws`, against an echo service: prints a verdict for each. What the library does not send by
// itself is written to its socket as bytes.
const crypto = require("node:crypto");
const WebSocket = require("ws");

const url = process.argv[2];
const verdicts = {};
const cases = [];
const define = (name, run) => cases.push([name, run]);

const open = (options = {}, protocols = []) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
    socket.on("open", () => resolve(socket));
    socket.on("error", reject);
  });
const next = (socket, event) =>
  new Promise((resolve, reject) => {
    socket.once(event, (...values) => resolve(values));
    if (event !== "close") socket.once("close", (code) => reject(new Error(`closed with ${code}`)));
  });
const same = (a, b, what) => {
  if (a !== b) throw new Error(`${what}: ${String(a).slice(0, 60)} instead of ${String(b).slice(0, 60)}`);
};
const digest = (data) => crypto.createHash("sha256").update(data).digest("hex");
const bye = (socket) => {
  const closed = next(socket, "close");
  socket.close(1000);
  return closed;
};

// §5.6, §5.2: every form of length, as text and as binary.
for (const length of [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20]) {
  for (const binary of [false, true]) {
    define(`${binary ? "binary" : "text"} of ${length} bytes`, async () => {
      const socket = await open();
      const data = binary ? crypto.randomBytes(length) : Buffer.alloc(length, "*");
      const came = next(socket, "message");
      socket.send(data, { binary });
      const [answer, isBinary] = await came;
      same(isBinary, binary, "kind");
      same(digest(answer), digest(data), "content");
      await bye(socket);
    });
  }
}

define("text of several scripts", async () => {
  const socket = await open();
  const came = next(socket, "message");
  socket.send("κόσμε · 日本語 · \u{1F34A} · \u0000");
  same(String((await came)[0]), "κόσμε · 日本語 · \u{1F34A} · \u0000", "text");
  await bye(socket);
});

// §5.4
define("a message in fragments", async () => {
  const socket = await open();
  const came = next(socket, "message");
  for (const part of ["one ", "two ", ""]) socket.send(part, { fin: false, binary: false });
  socket.send("three", { fin: true, binary: false });
  same(String((await came)[0]), "one two three", "text");
  await bye(socket);
});
define("a ping between fragments", async () => {
  const socket = await open();
  const order = [];
  socket.on("pong", () => order.push("pong"));
  socket.on("message", () => order.push("message"));
  const came = next(socket, "message");
  socket.send("one ", { fin: false, binary: false });
  socket.ping("now");
  await next(socket, "pong");
  socket.send("two", { fin: true, binary: false });
  same(String((await came)[0]), "one two", "text");
  same(order.join(), "pong,message", "order");
  await bye(socket);
});

// §5.5.2, §5.5.3
for (const length of [0, 1, 125]) {
  define(`a ping of ${length} bytes`, async () => {
    const socket = await open();
    const data = crypto.randomBytes(length);
    const came = next(socket, "pong");
    socket.ping(data);
    same(digest((await came)[0]), digest(data), "pong");
    await bye(socket);
  });
}
define("a pong that nobody asked for", async () => {
  const socket = await open();
  socket.pong("by the way");
  const came = next(socket, "message");
  socket.send("still here");
  same(String((await came)[0]), "still here", "text");
  await bye(socket);
});

// §7.4.1
for (const code of [1000, 1001, 1003, 1011, 3000, 4999]) {
  define(`a close with ${code} and a reason`, async () => {
    const socket = await open();
    const closed = next(socket, "close");
    socket.close(code, "enough of it");
    same((await closed)[0], code, "code");
  });
}
define("a close without a code", async () => {
  const socket = await open();
  const closed = next(socket, "close");
  socket.close();
  same((await closed)[0], 1005, "code");
});

// §1.9, §9
define("a subprotocol", async () => {
  const socket = await open({}, ["echo.one", "echo.two"]);
  same(socket.protocol, "echo.two", "protocol");
  await bye(socket);
});
define("messages that are compressed", async () => {
  const socket = await open({ perMessageDeflate: { threshold: 0 } });
  same(socket.extensions.includes("permessage-deflate"), true, "extension");
  for (const length of [1, 1000, 200_000]) {
    const came = next(socket, "message");
    socket.send("a".repeat(length));
    same((await came)[0].length, length, "length");
  }
  await bye(socket);
});
define("many messages at once, in order", async () => {
  const socket = await open();
  const came = [];
  const all = new Promise((resolve) =>
    socket.on("message", (data) => came.push(String(data)) === 500 && resolve()),
  );
  for (let n = 0; n < 500; n++) socket.send(`${n}`);
  await all;
  same(came.join(), [...Array(500).keys()].join(), "order");
  await bye(socket);
});

// What breaks the protocol is written as bytes; the service closes with the code of §7.4.1.
const frame = (first, payload, { masked = true, length } = {}) => {
  const mask = Buffer.from([1, 2, 3, 4]);
  const data = Buffer.from(payload);
  const head = length ?? Buffer.from([(masked ? 0x80 : 0) | data.length]);
  const body = masked ? Buffer.from(data.map((byte, at) => byte ^ mask[at % 4])) : data;
  return Buffer.concat([Buffer.from([first]), head, masked ? mask : Buffer.alloc(0), body]);
};
const violations = {
  "a frame without a mask": [1002, frame(0x81, "hello", { masked: false })],
  "a reserved bit": [1002, frame(0xc1, "hello")],
  "a reserved data opcode": [1002, frame(0x83, "hello")],
  "a reserved control opcode": [1002, frame(0x8b, "hello")],
  "a control frame in fragments": [1002, frame(0x09, "hello")],
  "a control frame of 126 bytes": [1002, frame(0x89, Buffer.alloc(126), { length: Buffer.from([0xfe, 0, 126]) })],
  "a continuation of nothing": [1002, frame(0x80, "hello")],
  "a new message within fragments": [1002, Buffer.concat([frame(0x01, "one"), frame(0x81, "two")])],
  "text that is no UTF-8": [1007, frame(0x81, [0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xcf, 0x83, 0xed, 0xa0, 0x80])],
  "a close of one byte": [1002, frame(0x88, [3])],
  "a close with a code that is none": [1002, frame(0x88, [3, 0xe7])],
  "a close with a reason that is no UTF-8": [1007, frame(0x88, [3, 0xe8, 0xff])],
};
for (const [name, [code, bytes]] of Object.entries(violations)) {
  define(name, async () => {
    const socket = await open();
    const closed = next(socket, "close");
    socket._socket.write(bytes);
    same((await closed)[0], code, "code");
  });
}
define("a frame byte by byte", async () => {
  const socket = await open();
  const came = next(socket, "message");
  for (const byte of frame(0x81, "slowly")) {
    await new Promise((done) => socket._socket.write(Buffer.from([byte]), done));
  }
  same(String((await came)[0]), "slowly", "text");
  await bye(socket);
});

(async () => {
  for (const [name, run] of cases) {
    const late = new Promise((_, reject) => setTimeout(reject, 20_000, new Error("no answer")).unref());
    try {
      await Promise.race([run(), late]);
      verdicts[name] = "as it should";
    } catch (error) {
      verdicts[name] = String(error);
    }
  }
  console.log(JSON.stringify(verdicts));
  process.exit(0);
})();
