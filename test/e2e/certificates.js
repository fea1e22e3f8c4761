// Certificates for the tests, made by openssl: an authority that the clients trust,
// and what it vouches for.

import fs from 'node:fs';
import { KeyRing } from './jwt.js';

const SANS = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
const CURVE = ['-pkeyopt', 'ec_paramgen_curve:P-256'];

/** A directory with an authority in it; NAME.crt and NAME.key are what `certificate` makes. */
export class Authority extends KeyRing {
  constructor() {
    super();
    this.openssl('req', '-x509', '-newkey', 'ec', ...CURVE, '-nodes', '-days', '2', '-subj', '/CN=the test authority',
      '-keyout', this.file('ca.key'), '-out', this.file('ca.crt'));
    this.ca = fs.readFileSync(this.file('ca.crt'), 'utf8');
  }

  /** A certificate for this machine, or whatever else; returns what the streamer is told of it. */
  certificate(name, { by = 'ca', rsa = false, days = 2, extension = SANS } = {}) {
    fs.writeFileSync(this.file(`${name}.ext`), extension);
    this.openssl('req', '-new', ...(rsa ? ['-newkey', 'rsa:2048'] : ['-newkey', 'ec', ...CURVE]), '-nodes',
      '-subj', `/CN=${name}`, '-keyout', this.file(`${name}.key`), '-out', this.file(`${name}.csr`));
    this.openssl('x509', '-req', '-in', this.file(`${name}.csr`), '-CA', this.file(`${by}.crt`), '-CAkey', this.file(`${by}.key`),
      '-CAcreateserial', '-days', String(days), '-extfile', this.file(`${name}.ext`), '-out', this.file(`${name}.crt`));
    return this.options(name);
  }

  /** A certificate by an authority of its own, which stands behind it in the file. */
  chain(name, options) {
    this.certificate(`${name}-ca`, { extension: 'basicConstraints=critical,CA:TRUE' });
    this.certificate(name, { ...options, by: `${name}-ca` });
    fs.appendFileSync(this.file(`${name}.crt`), fs.readFileSync(this.file(`${name}-ca.crt`)));
    return this.options(name);
  }

  options(name) {
    return ['--tls-cert', this.file(`${name}.crt`), '--tls-key', this.file(`${name}.key`)];
  }
}
