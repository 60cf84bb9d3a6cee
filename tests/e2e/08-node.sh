#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Node: its http server and client (keep-alive agent, 20 requests at once, a 2 MB upload), and a
# net echo with allowHalfOpen. Node exports OpenSSL's symbols itself.
. "$(dirname "$0")/lib.sh"
need node
ports 18130 18131
marker mark-e2e-node-0fa2
pair node node

body() {
    cat >server.js <<'J'
const http = require('http'), net = require('net'), crypto = require('crypto');
http.createServer((q, r) => {
  if (q.method === 'POST') {
    const h = crypto.createHash('sha256'); let n = 0;
    q.on('data', d => { h.update(d); n += d.length; });
    q.on('end', () => r.end(n + ' ' + h.digest('hex').slice(0, 12)));
  } else if (q.url === '/stream') {
    let i = 0; const t = () => i < 50 ? r.write('x'.repeat(10000) + i++, t) : r.end(); t();
  } else r.end('mark-e2e-node-0fa2 ' + q.url);
}).listen(18130, '127.0.0.1');
net.createServer({ allowHalfOpen: true }, s => s.pipe(s)).listen(18131, '127.0.0.1');
J
    cat >client.js <<'J'
const http = require('http'), net = require('net');
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const ask = (path, body) => new Promise((ok, no) => {
  const q = http.request({ port: 18130, host: '127.0.0.1', path, agent, method: body ? 'POST' : 'GET' }, r => {
    let t = ''; r.on('data', d => t += d); r.on('end', () => ok(r.statusCode + ' ' + t.length + ' ' + t.slice(0, 60)));
  });
  q.on('error', no); q.end(body);
});
const echo = text => new Promise((ok, no) => {
  const s = net.connect({ port: 18131, host: '127.0.0.1', allowHalfOpen: true });
  let n = 0; s.on('data', d => n += d.length); s.on('end', () => ok('echo ' + n)); s.on('error', no);
  s.end(text);
});
(async () => {
  for (const l of await Promise.all([...Array(20).keys()].map(i => ask('/' + i + '?mark-e2e-node-0fa2')))) console.log(l);
  console.log(await ask('/stream'));
  console.log(await ask('/', Buffer.alloc(2 << 20, 'mark-e2e-node-0fa2')));
  for (const l of await Promise.all([1, 1000, 500000].map(n => echo('e'.repeat(n))))) console.log(l);
  await new Promise(ok => net.connect(18139, '127.0.0.1').on('error', e => { console.log(e.code); ok(); }));
  agent.destroy();
})().catch(e => { console.log(e.message); process.exit(1); });
J
    bg server $RUN node server.js
    listening 18130 && listening 18131 || return 1
    $RUN node client.js
}
e2e
