// The shipped configurations of nginx and Caddy, made to run in the foreground, in
// directories of their own, on free ports of 127.0.0.1; what the machine may have of
// either is not touched.

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** A port that is free now. */
export async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

/** A program as "test/bin/deps" unpacks it, or the system's. */
function program(name, file) {
  const unpacked = path.join(root, 'test/build', name, file);
  return fs.existsSync(unpacked) ? unpacked : file;
}

/** A shipped configuration with what is here in the place of what it names; each must be in it. */
function adapted(name, replacements) {
  let text = fs.readFileSync(path.join(root, 'streamer/conf', name), 'utf8');
  for (const [from, to] of replacements) {
    if (!text.includes(from)) throw new Error(`${name} has no ${from}`);
    text = text.replaceAll(from, to);
  }
  return text;
}

/** nginx's main file around the site. */
function nginxConfiguration({ dir, port, upstream, cert, key }) {
  const site = adapted('nginx.conf', [
    ['127.0.0.1:8080', `127.0.0.1:${upstream}`], ['listen 443 ', `listen 127.0.0.1:${port} `], ['\tlisten [::]:443 ssl http2;\n', ''],
    ['events.example.org;', 'localhost;'], ['/etc/ssl/events.example.org.crt', cert], ['/etc/ssl/events.example.org.key', key], ['/var/log/nginx/', `${dir}/`],
  ]);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `  ${kind}_temp_path ${dir}/${kind};`).join('\n');
  // gzip is on, and for every type, to show that the site does without it.
  return `${process.getuid() === 0 ? 'user root;' : ''}
daemon off;
pid ${dir}/nginx.pid;
worker_rlimit_nofile 4096;
events { worker_connections 2048; }
http {
${temporary}
  gzip on;
  gzip_types *;
  gzip_min_length 1;
  gzip_proxied any;
${site}
}
`;
}

function caddyConfiguration({ dir, port, upstream, cert, key, level = 'INFO' }) {
  return adapted('Caddyfile', [
    ['127.0.0.1:8080', `127.0.0.1:${upstream}`], ['events.example.org {', `https://localhost:${port} {\n\tbind 127.0.0.1\n\ttls ${cert} ${key}`],
    ['\tlog default {', `\tadmin off\n\tauto_https off\n\tstorage file_system ${dir}\n\tlog default {\n\t\tlevel ${level}`],
  ]);
}

const PROXIES = {
  nginx: {
    configuration: nginxConfiguration,
    command: (dir, file) => [program('nginx', '/usr/sbin/nginx'), '-p', dir, '-e', `${dir}/error.log`, '-c', file],
  },
  caddy: {
    configuration: caddyConfiguration,
    command: (dir, file) => [program('caddy', '/usr/bin/caddy'), 'run', '--adapter', 'caddyfile', '--config', file],
  },
};

export const PROXY_NAMES = Object.keys(PROXIES);

/**
 * The command that runs a proxy, whose files are in `dir`: it listens on `port` and
 * passes on to the port `upstream`.  Caddy's own log has a `level`.
 */
export function proxyCommand(name, { dir, ...settings }) {
  const file = path.join(dir, 'configuration');
  fs.writeFileSync(file, PROXIES[name].configuration({ dir, ...settings }));
  return PROXIES[name].command(dir, file);
}

/** What a proxy needs in its environment to keep to its directory. */
export const proxyEnvironment = (dir) => ({ HOME: dir, XDG_CONFIG_HOME: dir, XDG_DATA_HOME: dir });

/** Does somebody listen there? */
export async function listens(port) {
  const socket = net.connect(port, '127.0.0.1');
  const connected = await new Promise((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
  socket.destroy();
  return connected;
}
