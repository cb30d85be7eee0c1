// What an outside producer does over a WebSocket, with Node's own: publishes events with many under way, keeps what is not
// acknowledged, and sends that again on another connection when one breaks. It says when half is acknowledged.
import { createInterface } from "node:readline";

const [key, count] = [process.argv[3], Number(process.argv[4])];
let url = process.argv[2];
const WINDOW = 64;
const unsent = Array.from({ length: count }, (_, n) => n);
const [acknowledged, duplicates, connections] = [new Set(), new Set(), []];

function event(n) {
  return JSON.stringify({
    specversion: "1.0", type: "order.paid", source: "/till", id: String(n), subject: `o-${n % 4}`, data: { n },
  });
}

/** Publishes on one connection until all is acknowledged or it breaks. */
function publish() {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, {
      protocols: ["tangelo.publish.v1"],
      headers: { authorization: `Bearer ${key}` },
    });
    const open = [];
    const fill = () => {
      while (open.length < WINDOW && unsent.length > 0) {
        open.push(unsent.shift());
        socket.send(event(open.at(-1)));
      }
    };
    socket.onopen = () => {
      connections.push(0);
      fill();
    };
    socket.onmessage = ({ data }) => {
      const told = JSON.parse(data);
      // In the order in which they were sent.
      if (told.id !== String(open[0])) throw new Error(`${data} is no answer to ${open[0]}`);
      acknowledged.add(open.shift());
      connections[connections.length - 1] += 1;
      if (told.duplicate) duplicates.add(told.id);
      if (acknowledged.size === Math.floor(count / 2)) console.log("half");
      if (acknowledged.size === count) socket.close(1000);
      fill();
    };
    // A connection that breaks off is told of in either way.
    socket.onerror = socket.onclose = () => {
      unsent.unshift(...open.splice(0));
      resolve();
    };
  });
}

// What is said to it is where the server is by now.
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
await publish();
while (acknowledged.size < count) {
  url = (await lines.next()).value;
  await publish();
}
console.log(JSON.stringify({ acknowledged: acknowledged.size, duplicates: duplicates.size, connections }));
process.exit(0);
