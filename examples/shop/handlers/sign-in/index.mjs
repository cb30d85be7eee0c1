// Signs users in: checks a password, answers with a token (EdDSA, RFC 8037) that the `auth` function verifies.
//
// An unmodified Lambda handler for API Gateway's payload 2.0. The users are the shop's demonstration accounts;
// a real shop keeps them in a database.
import { createPrivateKey, randomUUID, scryptSync, sign, timingSafeEqual } from "node:crypto";

import { users } from "./users.mjs";

const LIFETIME = 3600; // seconds
const key = createPrivateKey({
  key: Buffer.from(process.env.SIGNING_KEY, "base64"),
  format: "der",
  type: "pkcs8",
});

export async function handler(event, context) {
  const { user, password } = credentials(event);
  if (typeof user !== "string" || typeof password !== "string") {
    return problem(400, "Bad request", "send a JSON object with user and password");
  }
  const account = users[user];
  // An unknown user costs as much time as a known one, so that names cannot be told by the clock.
  const matches = isPassword(password, account ?? users.nobody);
  if (!account || !matches) return problem(401, "Not signed in", "user or password is wrong");
  await announce(user, context.awsRequestId);
  return json(200, { token: token(user, account.roles), token_type: "Bearer", expires_in: LIFETIME });
}

function credentials(event) {
  const body = event.isBase64Encoded ? Buffer.from(event.body, "base64").toString() : event.body;
  try {
    return JSON.parse(body ?? "") ?? {};
  } catch {
    return {};
  }
}

function isPassword(password, { salt, hash }) {
  return timingSafeEqual(scryptSync(password, salt, 32), Buffer.from(hash, "hex"));
}

function token(user, roles) {
  const now = Math.floor(Date.now() / 1000);
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = encode({ alg: "EdDSA", typ: "JWT" });
  const claims = encode({ iss: "shop", sub: user, roles, iat: now, exp: now + LIFETIME, jti: randomUUID() });
  const signature = sign(null, Buffer.from(`${head}.${claims}`), key).toString("base64url");
  return `${head}.${claims}.${signature}`;
}

// Signing in does not fail because nobody could be told: statistics are not worth an outage.
async function announce(user, id) {
  try {
    const response = await fetch(process.env.TANGELO_EVENTS_URL, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": id, // the invocation's id: a repeated invocation announces the same event
        "ce-source": "/shop/sign-in",
        "ce-type": "user.signed-in",
        "ce-time": new Date().toISOString(),
      },
      body: JSON.stringify({ user }),
    });
    if (!response.ok) console.error(`user.signed-in was refused: ${response.status} ${await response.text()}`);
  } catch (error) {
    console.error(`user.signed-in was not published: ${error.message}`);
  }
}

function json(statusCode, document, type = "application/json") {
  return { statusCode, headers: { "content-type": type, "cache-control": "no-store" }, body: JSON.stringify(document) };
}

function problem(status, title, detail) {
  return json(status, { status, title, detail }, "application/problem+json");
}
