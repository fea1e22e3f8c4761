// JSON Web Tokens for the tests: keys that openssl makes, and tokens signed, or
// mis-signed, in whatever way a test wants.

import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { keepSecret } from './secrets.js';

export const now = () => Math.floor(Date.now() / 1000);
export const base64url = (bytes) => Buffer.from(bytes).toString('base64url');

/** A directory of keys as an operator would make them; `file(name)` is one's path. */
export class KeyRing {
  constructor() {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pev-keys.'));
    fs.chmodSync(this.dir, 0o755); // the database server, another user, reads the secret
    process.on('exit', () => fs.rmSync(this.dir, { recursive: true, force: true }));
  }

  file(name) {
    return path.join(this.dir, name);
  }

  openssl(...args) {
    return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** A secret; returns its path. */
  secret(name = 'secret') {
    this.write(name, `${keepSecret(this.openssl('rand', '-hex', '32').trim())}\n`);
    return this.file(name);
  }

  /** A key pair: NAME.pem and NAME.pub; returns the path of the latter. */
  pair(name, ...args) {
    this.openssl('genpkey', ...args, '-out', this.file(`${name}.pem`));
    this.openssl('pkey', '-in', this.file(`${name}.pem`), '-pubout', '-out', this.file(`${name}.pub`));
    return this.file(`${name}.pub`);
  }

  rsa(name = 'rsa') {
    return this.pair(name, '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048');
  }

  ec(name = 'ec', curve = 'P-256') {
    return this.pair(name, '-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`);
  }

  write(name, text) {
    fs.writeFileSync(this.file(name), text);
  }

  read(name) {
    return fs.readFileSync(this.file(name), 'utf8');
  }

  /** A token that allows what `claims` says, for a minute, signed by what `name` holds. */
  token(claims = {}, { name = 'secret', alg = 'HS256', header = {} } = {}) {
    const head = JSON.stringify({ alg, typ: 'JWT', ...header });
    return this.sign(head, JSON.stringify({ exp: now() + 600, 'pev.read': ['*'], ...claims }), { name, alg });
  }

  /** A token of any header and claims, as text or bytes. */
  sign(head, claims, { name = 'secret', alg = 'HS256' } = {}) {
    const text = `${base64url(head)}.${base64url(claims)}`;
    return keepSecret(`${text}.${base64url(this.signature(text, name, alg))}`);
  }

  signature(text, name, alg) {
    if (alg === 'HS256') return crypto.createHmac('sha256', this.read(name).trimEnd()).update(text).digest();
    return crypto.sign('sha256', Buffer.from(text), { key: this.read(`${name}.pem`), dsaEncoding: 'ieee-p1363' });
  }
}
