// As much of WebSocket (RFC 6455) as a server needs that only sends text: the handshake, text frames out, and an
// answer to pings and to closing. What clients say otherwise is read and dropped.
import { createHash } from "node:crypto";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // section 1.3
const LONGEST_FRAME = 64 * 1024;
const [TEXT, CLOSE, PING, PONG] = [0x1, 0x8, 0x9, 0xa];

/** Answers the handshake; false when the request is not one. */
export function accept(request, socket) {
  const key = request.headers["sec-websocket-key"];
  if (request.headers.upgrade?.toLowerCase() !== "websocket" || !key) return false;
  const proof = createHash("sha1").update(key + MAGIC).digest("base64");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n" +
      `sec-websocket-accept: ${proof}\r\n\r\n`,
  );
  let rest = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    rest = readFrames(Buffer.concat([rest, chunk]), socket);
    if (rest.length > LONGEST_FRAME) socket.destroy();
  });
  return true;
}

/** A text frame. */
export function text(message) {
  return frame(TEXT, Buffer.from(message));
}

function frame(opcode, payload) {
  const head =
    payload.length < 126
      ? Buffer.from([0x80 | opcode, payload.length])
      : Buffer.from([0x80 | opcode, 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([head, payload]);
}

/** Handles the complete frames in `bytes` and returns what is left. */
function readFrames(bytes, socket) {
  for (;;) {
    if (bytes.length < 2) return bytes;
    const short = bytes[1] & 0x7f;
    if (short === 127) return socket.destroy(), Buffer.alloc(0); // 64-bit lengths: too long for us in any case
    const start = (short === 126 ? 4 : 2) + 4; // after the mask, which clients must use
    if (bytes.length < start) return bytes;
    const length = short === 126 ? bytes.readUInt16BE(2) : short;
    if (bytes.length < start + length) return bytes;
    const mask = bytes.subarray(start - 4, start);
    const payload = bytes.subarray(start, start + length).map((byte, at) => byte ^ mask[at % 4]);
    const opcode = bytes[0] & 0x0f;
    if (opcode === PING) socket.write(frame(PONG, payload));
    if (opcode === CLOSE) socket.end(frame(CLOSE, payload));
    bytes = bytes.subarray(start + length);
  }
}
