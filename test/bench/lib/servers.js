// The servers whose subscribers are compared: pev-streamer, nchan, and a relay in
// Node. Each listens on a free port of 127.0.0.1.

import fs from 'node:fs';
import path from 'node:path';
import { freePort, listens, proxyCommand, proxyEnvironment } from '../../e2e/proxy-command.js';
import { bench, cpuSeconds, peakBytes, residentBytes, root, said, scratchDir, start, stop } from './process.js';

class Server {
  constructor(name, child, port) {
    Object.assign(this, { name, child, port });
  }

  residentBytes() {
    return residentBytes(this.child.pid);
  }

  /** The most that it ever took; of one process. */
  peakBytes() {
    return peakBytes(this.child.pid);
  }

  cpuSeconds() {
    return cpuSeconds(this.child.pid);
  }

  stop() {
    return stop(this.child);
  }
}

export async function startStreamer(dsn, args = []) {
  const child = start(path.join(root, 'streamer/pev-streamer'),
    ['--listen', '127.0.0.1:0', '--dsn', dsn, '--max-clients', '20000', ...args]);
  const [, port] = await said(child, child.stderr, /listening on https?:\/\/127\.0\.0\.1:(\d+)/);
  return new Server('pev', child, Number(port));
}

export async function startRelay(dsn) {
  const child = start(process.execPath, [path.join(bench, 'relay.js'), dsn]);
  const [, port] = await said(child, child.stdout, /listening on (\d+)\n/);
  return new Server('relay', child, Number(port));
}

/** nginx and the module: unpacked by "test/bin/deps bench", or the system's. */
function findNginx() {
  for (const prefix of [path.join(bench, 'build/nginx'), '']) {
    const nginx = `${prefix}/usr/sbin/nginx`;
    const module = `${prefix}/usr/lib/nginx/modules/ngx_nchan_module.so`;
    if (fs.existsSync(nginx) && fs.existsSync(module)) return { nginx, module };
  }
  throw new Error('nginx with nchan is not here; run "make deps-bench"');
}

export async function startNchan() {
  const { nginx, module } = findNginx();
  const dir = fs.mkdtempSync(path.join(scratchDir(), 'nginx.'));
  const port = await freePort();
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${dir}/${kind};`).join('\n');
  // One worker, as pev-streamer is one process: more share the two cores with the
  // load client and pass every message on between each other. Messages are kept
  // until everybody has them: nchan's default of ten would drop some.
  fs.writeFileSync(`${dir}/nginx.conf`, `
${process.getuid() === 0 ? 'user root;' : ''}
daemon off;
pid ${dir}/nginx.pid;
error_log stderr error;
worker_processes 1;
worker_rlimit_nofile 20000;
load_module ${module};
events { worker_connections 19000; }
http {
  access_log off;
${temp}
  keepalive_requests 1000000000;
  nchan_shared_memory_size 512M;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location ~ ^/pub/(\\d+)$ {
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 10000;
      nchan_message_timeout 60s;
    }
    location ~ ^/events/(\\d+)$ {
      nchan_subscriber eventsource;
      nchan_subscriber_first_message newest;
      nchan_channel_id $1;
    }
  }
}
`);
  const child = start(nginx, ['-p', dir, '-e', 'stderr', '-c', `${dir}/nginx.conf`], {
    signal: 'TERM', env: { LD_PRELOAD: path.join(bench, 'build/nginx-paths.so'), NGINX_PATHS: dir },
  });
  return whenListening(new Server('nchan', child, port));
}

/** nginx or Caddy before a streamer on a port, as they are shipped for it. */
export async function startProxy(name, upstream, { cert, key }) {
  const dir = fs.mkdtempSync(path.join(scratchDir(), `${name}.`));
  const port = await freePort();
  const [program, ...args] = proxyCommand(name, { dir, port, upstream, cert, key });
  return whenListening(new Server(name, start(program, args, { signal: 'TERM', env: proxyEnvironment(dir) }), port));
}

/** A server that does not say when it is there. */
async function whenListening(server) {
  for (let tries = 0; ; tries++) {
    if (await listens(server.port)) return server;
    if (tries > 200 || server.child.exitCode !== null) throw new Error(`${server.name} does not listen: ${server.child.errors}`);
    await new Promise((resolve) => { setTimeout(resolve, 25); });
  }
}
