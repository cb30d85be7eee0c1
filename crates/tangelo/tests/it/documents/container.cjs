// A service around the class of the listing: what the listing leaves to its reader, and no line of it. The class is not
// exported, so the listing runs as a script, whose classes the next script sees.
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const vm = require('node:vm');

Object.assign(globalThis, { require, module: { exports: {} }, exports: {} });
vm.runInThisContext(fs.readFileSync(path.join(__dirname, 'functions/listing.js'), 'utf8'));
const service = new (vm.runInThisContext('ContainerService'))();

const ways = {
  '/process': (data) => service.processWithLambda(data),
  '/trigger': async (data) => (await service.triggerAsync(data)) ?? null,
};

http
  .createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    try {
      response.end(JSON.stringify(await ways[request.url](JSON.parse(body))));
    } catch (error) {
      response.statusCode = 502;
      response.end(JSON.stringify({ error: error.message }));
    }
  })
  .listen(process.env.PORT, '127.0.0.1');
