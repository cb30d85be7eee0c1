// Tangelo's Lambda bootstrap for Node.js: asks the Runtime API for work, calls the handler, answers.
//
// Needs no package, and loads as little of Node as it can: start time is the user's time. Handlers may be CommonJS or
// ES modules, and answer by promise or by callback.
'use strict';

const net = require('node:net');
const fs = require('node:fs');
const { statSync, readFileSync } = fs;
const path = require('node:path');

const env = process.env;
let ROOT;
const API = '/2018-06-01/runtime/';
const JSON_TYPE = { 'Content-Type': 'application/json' };

/** One connection to the Runtime API, kept for life. It keeps the process alive only while it waits for work. */
class Api {
  constructor(address) {
    const at = address.lastIndexOf(':');
    this.address = address;
    this.pieces = [];
    this.size = 0;
    this.head = undefined;
    this.waiting = [];
    this.socket = net.connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)), noDelay: true });
    this.socket.on('data', (piece) => this.take(piece));
    // The platform has closed: there is no more work.
    this.socket.on('error', () => process.exit(0));
    this.socket.on('close', () => process.exit(0));
  }

  request(method, target, body, headers) {
    let head = `${method} ${API}${target} HTTP/1.1\r\nHost: ${this.address}\r\nUser-Agent: tangelo-node/${process.versions.node}\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    if (method === 'GET') return Buffer.from(head + '\r\n', 'latin1');
    head += `Content-Length: ${body.length}\r\n\r\n`;
    return Buffer.concat([Buffer.from(head, 'latin1'), body]);
  }

  send(data) {
    this.socket.write(data);
  }

  /** The next response: status, headers by lower-case name, body. */
  receive(then) {
    this.waiting.push(then);
  }

  take(piece) {
    this.pieces.push(piece);
    this.size += piece.length;
    for (;;) {
      if (this.head === undefined && !this.takeHead()) return;
      if (this.size < this.head.length) return;
      const all = this.joined();
      const { status, headers, length } = this.head;
      this.head = undefined;
      this.rest(all, length);
      this.waiting.shift()(status, headers, all.subarray(0, length));
    }
  }

  takeHead() {
    const all = this.joined();
    const end = all.indexOf('\r\n\r\n');
    if (end < 0) return false;
    const lines = all.toString('latin1', 0, end).split('\r\n');
    const headers = {};
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    this.head = { status: Number(lines[0].split(' ')[1]), headers, length: Number(headers['content-length'] || 0) };
    this.rest(all, end + 4);
    return true;
  }

  joined() {
    if (this.pieces.length !== 1) this.pieces = [Buffer.concat(this.pieces)];
    return this.pieces[0];
  }

  rest(all, from) {
    this.pieces = all.length > from ? [all.subarray(from)] : [];
    this.size = all.length - from;
  }
}

/** An error with a type of its own, as the Runtime API reports it. */
class Fault extends Error {
  constructor(name, message, cause) {
    super(message);
    this.name = name;
    if (cause && cause.stack) this.stack = cause.stack;
  }
}

function describe(error) {
  try {
    if (error instanceof Error || (error && typeof error === 'object' && typeof error.message === 'string' && 'stack' in error)) {
      const clean = (text) => String(text).replaceAll('\x7f', '%7F');
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace: clean(error.stack || '').split('\n') };
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    return { errorType: 'handled', errorMessage: 'the error cannot be described: its name, message or stack throws', trace: [] };
  }
}

/** Logs an error and describes it, its type fit for a header. */
function report(what, error) {
  const description = describe(error);
  let logged;
  try {
    logged = JSON.stringify({ ...description, ...(error instanceof Error ? error : {}), stack: description.trace, trace: undefined });
  } catch {
    logged = JSON.stringify(description);
  }
  process.stderr.write(`${what}\t${logged}\n`);
  const kind = description.errorType.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
  return { kind, body: Buffer.from(JSON.stringify(description)) };
}

function errorRequest(api, target, what, error) {
  const { kind, body } = report(what, error);
  return api.request('POST', target, body, { ...JSON_TYPE, 'Lambda-Runtime-Function-Error-Type': kind });
}

// ---- replies that are streamed

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const PRELUDE = Symbol('prelude');

/** Puts status, headers and cookies before the body of a stream. */
class HttpResponseStream {
  static from(stream, prelude) {
    stream.setContentType('application/vnd.awslambda.http-integration-response');
    stream[PRELUDE] = JSON.stringify(prelude);
    return stream;
  }
}

globalThis.awslambda = {
  ...globalThis.awslambda,
  streamifyResponse(handler, options) {
    handler[STREAMING] = 'response';
    if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
    return handler;
  },
  HttpResponseStream,
};

/** The reply of a streaming handler: what is written to `stream` goes out as fast as the platform takes it. */
class StreamedReply {
  constructor(api, id, highWaterMark) {
    this.api = api;
    this.id = id;
    this.begun = false;
    this.ended = false;
    this.type = 'application/octet-stream';
    const { Writable } = require('node:stream');
    this.stream = new Writable({
      highWaterMark,
      write: (chunk, _encoding, done) => this.send([chunk], done),
      writev: (chunks, done) => this.send(chunks.map((one) => one.chunk), done),
      final: (done) => {
        this.begin();
        this.end('', done);
      },
    });
    const write = this.stream.write.bind(this.stream);
    const isBytes = (chunk) => typeof chunk === 'string' || chunk instanceof Uint8Array;
    this.stream.write = (chunk, ...rest) => write(isBytes(chunk) ? chunk : JSON.stringify(chunk), ...rest);
    this.stream.setContentType = (type) => {
      if (this.begun) throw new Fault('Runtime.InvalidStreamingOperation', 'Cannot set content-type, too late.');
      this.type = String(type);
    };
  }

  begin() {
    if (this.begun) return;
    this.begun = true;
    const type = this.type.replace(/[^\x20-\x7e]/g, '?');
    const head =
      `POST ${API}invocation/${this.id}/response HTTP/1.1\r\nHost: ${this.api.address}\r\nContent-Type: ${type}\r\n` +
      'Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n' +
      'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n';
    this.api.send(Buffer.from(head, 'latin1'));
    const prelude = this.stream[PRELUDE];
    if (prelude !== undefined) this.send([Buffer.from(`${prelude}${'\0'.repeat(8)}`)], () => {});
  }

  send(chunks, done) {
    this.begin();
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    // A chunk of no bytes would be the last one.
    if (body.length === 0) return done();
    const { socket } = this.api;
    socket.cork();
    socket.write(`${body.length.toString(16)}\r\n`, 'latin1');
    socket.write(body);
    socket.write('\r\n', 'latin1', done);
    socket.uncork();
  }

  /** The last chunk, and after it what went wrong. */
  end(trailers, done, answered) {
    this.ended = true;
    this.api.receive(answered ?? (() => {}));
    this.api.socket.write(`0\r\n${trailers}\r\n`, 'latin1', done);
  }

  fail(what, error, answered) {
    const { kind, body } = report(what, error);
    const trailers =
      `Lambda-Runtime-Function-Error-Type: ${kind}\r\n` +
      `Lambda-Runtime-Function-Error-Body: ${body.toString('base64')}\r\n`;
    this.end(trailers, undefined, answered);
    this.stream.destroy();
  }
}

// ---- finding the handler

function isFile(file) {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat !== undefined && stat.isFile();
}

/** Whether the nearest package.json says that `.js` files are ES modules. */
function isModuleFolder(folder) {
  for (let at = folder; ; at = path.dirname(at)) {
    const file = path.join(at, 'package.json');
    if (isFile(file)) {
      try {
        return JSON.parse(readFileSync(file, 'utf8')).type === 'module';
      } catch (error) {
        throw new Fault('Runtime.ImportModuleError', `${file} cannot be read: ${error.message}`, error);
      }
    }
    if (at === ROOT || at === path.dirname(at) || path.basename(at) === 'node_modules') return false;
  }
}

async function loadModule(name) {
  const base = path.resolve(ROOT, name);
  const file = [base, `${base}.js`, `${base}.mjs`, `${base}.cjs`].find(isFile);
  const isModule = file !== undefined && (file.endsWith('.mjs') || (file.endsWith('.js') && isModuleFolder(path.dirname(file))));
  try {
    if (isModule) return await import(require('node:url').pathToFileURL(file).href);
    // By its name, so that NODE_PATH and folders with an index work as in Node.
    return require(file ?? require.resolve(name, { paths: [ROOT, ...(env.NODE_PATH || '').split(':')] }));
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (error instanceof SyntaxError) throw new Fault('Runtime.UserCodeSyntaxError', String(error), error);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      throw new Fault('Runtime.ImportModuleError', `Error: ${error.message}`, error);
    }
    throw error;
  }
}

async function loadHandler(text) {
  const slash = text.lastIndexOf('/') + 1;
  const dot = text.indexOf('.', slash);
  if (dot <= slash || dot === text.length - 1 || text.includes('..')) {
    throw new Fault('Runtime.MalformedHandlerName', `Bad handler '${text}': expected \`file.function\``);
  }
  const module = await loadModule(text.slice(0, dot));
  const names = text.slice(dot + 1).split('.');
  const pick = (from) => names.reduce((value, name) => (value == null ? undefined : value[name]), from);
  const handler = pick(module) ?? pick(module.default);
  if (handler === undefined) throw new Fault('Runtime.HandlerNotFound', `${text} is undefined or not exported`);
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${text} is not a function`);
  if (handler[STREAMING] && handler[STREAMING] !== 'response') {
    throw new Fault('Runtime.MalformedStreamingHandler', 'Only response streaming is supported.');
  }
  return handler;
}

// ---- one invocation

function parseHeader(headers, name) {
  if (!headers[name]) return undefined;
  try {
    return JSON.parse(headers[name]);
  } catch (error) {
    throw new Fault('Runtime.LambdaContextUnmarshalError', `Cannot parse ${name} as JSON: ${error.message}`);
  }
}

function makeContext(headers, finish) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    clientContext: parseHeader(headers, 'lambda-runtime-client-context'),
    identity: parseHeader(headers, 'lambda-runtime-cognito-identity'),
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    succeed: (result) => finish(undefined, result),
    fail: (error) => finish(error === undefined || error === null ? 'handled' : error),
    done: (error, result) => finish(error, result),
  };
}

class Loop {
  /** `alone`: no other loop works in this process. */
  constructor(api, handler, alone) {
    this.api = api;
    this.handler = handler;
    this.alone = alone;
    this.ask = api.request('GET', 'invocation/next');
    this.request = undefined;
    process.on('beforeExit', () => this.idle());
  }

  next() {
    this.request = undefined;
    this.api.socket.ref();
    this.api.receive((status, headers, body) => {
      if (status !== 200) {
        process.stderr.write(`the Runtime API answered ${status}: ${body}\n`);
        process.exit(1);
      }
      // While the handler works, only what it does keeps the process alive.
      this.api.socket.unref();
      this.run(headers, body);
    });
  }

  run(headers, body) {
    const request = { id: headers['lambda-runtime-aws-request-id'], done: false, atExit: undefined, promised: false };
    this.request = request;
    // The environment is everybody's: it says whose trace this is only to one who works alone.
    if (!this.alone) delete env._X_AMZN_TRACE_ID;
    else if (headers['lambda-runtime-trace-id']) env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
    else delete env._X_AMZN_TRACE_ID;
    const finish = (error, result) => this.called(request, error, result);
    try {
      const context = makeContext(headers, finish);
      request.context = context;
      let event;
      try {
        event = JSON.parse(body.toString('utf8'));
      } catch (error) {
        throw new Fault('Runtime.UnmarshalError', `Unable to parse the event as JSON: ${error.message}`);
      }
      if (this.handler[STREAMING]) return this.stream(request, event, context);
      const result = this.handler(event, context, finish);
      if (result !== null && typeof result === 'object' && typeof result.then === 'function') {
        request.promised = true;
        result.then((value) => this.finish(request, undefined, value), (error) => this.finish(request, error ?? new Error(String(error))));
      }
    } catch (error) {
      this.finish(request, error ?? new Error(String(error)));
    }
  }

  /** A handler that writes its reply to a stream: asks for more when that has ended and the handler has, too. */
  stream(request, event, context) {
    const reply = new StreamedReply(this.api, request.id, this.handler[HIGH_WATER_MARK]);
    request.promised = true;
    request.reply = reply;
    let returned = false;
    const fail = (error) => this.finish(request, error ?? new Error(String(error)));
    const end = () => {
      if (!returned || !reply.stream.writableFinished || request.done) return;
      request.done = true;
      this.next();
      this.api.send(this.ask);
    };
    reply.stream.on('error', fail);
    reply.stream.on('finish', end);
    reply.stream.on('close', () => reply.stream.writableFinished || fail(new Error('The response stream was destroyed before its end.')));
    const result = this.handler(event, reply.stream, context);
    if (result === null || typeof result !== 'object' || typeof result.then !== 'function') {
      throw new Error('Streaming does not support non-async handlers.');
    }
    result.then(() => {
      returned = true;
      end();
    }, fail);
  }

  /** The callback, or one of its older names: answers once nothing is left to do, unless the handler says otherwise. */
  called(request, error, result) {
    if (request.done || request.atExit) return;
    const answer = () => this.finish(request, error, result);
    // Where others wait for work there is always something left to do.
    if (this.alone && request.context.callbackWaitsForEmptyEventLoop && (error === undefined || error === null)) request.atExit = answer;
    else setImmediate(answer);
  }

  /** Nothing is left to do. */
  idle() {
    const request = this.request;
    if (!request || request.done) return;
    if (request.atExit) return request.atExit();
    if (!request.promised) return this.finish(request, undefined, null);
    const message = 'the handler\'s promise was never settled, and nothing is left that could settle it';
    this.finish(request, new Fault('Runtime.NodeJsExit', message));
  }

  finish(request, error, result) {
    if (request.done) return;
    request.done = true;
    if (request.reply?.begun) {
      // What was sent stays sent: the error comes after it, or is too late for anybody but the log.
      if (request.reply.ended) report('Invoke Error', error);
      else request.reply.fail('Invoke Error', error);
      this.next();
      return this.api.send(this.ask);
    }
    const answer = this.answer(request, error, result);
    this.api.receive(() => {});
    this.next();
    // The answer and the next question in one piece: the platform answers both, in order.
    this.api.send(Buffer.concat([answer, this.ask]));
  }

  answer(request, error, result) {
    const target = `invocation/${request.id}/`;
    if (error !== undefined && error !== null) return errorRequest(this.api, target + 'error', 'Invoke Error', error);
    let text;
    try {
      text = JSON.stringify(result === undefined ? null : result) ?? 'null';
    } catch (problem) {
      const fault = new Fault('Runtime.MarshalError', `Unable to stringify response body: ${problem.message}`, problem);
      return errorRequest(this.api, target + 'error', 'Invoke Error', fault);
    }
    return this.api.request('POST', target + 'response', Buffer.from(text), JSON_TYPE);
  }

  /** An error that nobody caught ends the process, after the platform was told. */
  crash(error, code) {
    const request = this.request;
    if (!request || request.done) {
      process.stderr.write(`Uncaught Exception\t${JSON.stringify(describe(error))}\n`);
      process.exit(code);
    }
    request.done = true;
    this.api.socket.ref();
    if (request.reply?.begun && !request.reply.ended) {
      return request.reply.fail('Uncaught Exception', error, () => process.exit(code));
    }
    const answer = errorRequest(this.api, `invocation/${request.id}/error`, 'Uncaught Exception', error);
    this.api.receive(() => process.exit(code));
    this.api.send(answer);
  }
}

// ---- templates

/**
 * Boots and waits to be told who this is, on standard input, which is a socket to the launcher. Node cannot fork, so
 * this process becomes the instance itself.
 */
async function becomeInstance() {
  process.argv.splice(2, 1);
  // What a first import and a first connection set up is set up before anybody waits.
  await import('node:url');
  new net.Socket().destroy();
  const stat = readFileSync('/proc/self/stat', 'latin1');
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ');
  const room = { start: Number(fields[47]), size: Number(fields[48]) - Number(fields[47]) };
  const memory = fs.openSync('/proc/self/mem', 'r+');
  fs.writeSync(0, 'r');
  const length = exactly(4).readUInt32LE();
  const who = JSON.parse(exactly(length).toString('utf8'));
  // Everything is unset first, so that nothing points any more to the memory that is written over.
  for (const name of Object.keys(env)) delete env[name];
  for (const [name, value] of who.env) env[name] = value;
  writeOver(memory, room, Buffer.from(who.env.map(([name, value]) => `${name}=${value}\0`).join('')));
  fs.closeSync(0);
  fs.openSync('/dev/null', 'r');
  process.chdir(who.cwd);
  require('node:module').Module._initPaths();
}

/** Reads from standard input without an event loop: a process that waits costs nothing. */
function exactly(size) {
  const buffer = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const read = fs.readSync(0, buffer, at, size - at, null);
    if (read === 0) process.exit(0);
    at += read;
  }
  return buffer;
}

/** The memory that the system shows as this process's environment; what does not fit is cut off. */
function writeOver(memory, room, content) {
  const fits = content.length <= room.size ? content.length : content.lastIndexOf(0, room.size - 1) + 1;
  const whole = Buffer.alloc(room.size);
  content.copy(whole, 0, 0, fits);
  fs.writeSync(memory, whole, 0, room.size, room.start);
  fs.closeSync(memory);
}

async function main() {
  if (process.argv[2] === 'template') await becomeInstance();
  ROOT = env.LAMBDA_TASK_ROOT;
  const api = new Api(env.AWS_LAMBDA_RUNTIME_API);
  let loops = [];
  // Whose fault it was is not known: everybody's work ends with the process.
  const crash = (error, code) => {
    const working = loops.filter((loop) => loop.request && !loop.request.done);
    (working.length === 0 ? loops.slice(0, 1) : working).forEach((loop) => loop.crash(error, code));
  };
  process.on('uncaughtException', (error) => {
    if (loops.length > 0) return crash(error, 129);
    process.stderr.write(`Uncaught Exception\t${JSON.stringify(describe(error))}\n`);
    process.exit(129);
  });
  process.on('unhandledRejection', (reason) => {
    const fault = new Fault('Runtime.UnhandledPromiseRejection', String(reason), reason instanceof Error ? reason : undefined);
    if (loops.length > 0) return crash(fault, 128);
    process.stderr.write(`Unhandled Rejection\t${JSON.stringify(describe(fault))}\n`);
    process.exit(128);
  });
  try {
    const handler = await loadHandler(env._HANDLER || '');
    const most = Number(env.AWS_LAMBDA_MAX_CONCURRENCY || 1);
    const more = Array.from({ length: most - 1 }, () => new Api(env.AWS_LAMBDA_RUNTIME_API));
    loops = [api, ...more].map((one) => new Loop(one, handler, most === 1));
  } catch (error) {
    api.receive(() => process.exit(1));
    return api.send(errorRequest(api, 'init/error', 'Init Error', error));
  }
  for (const loop of loops) {
    loop.next();
    loop.api.send(loop.ask);
  }
}

main();
