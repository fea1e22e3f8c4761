// What must not be shown: the harness looks for it wherever a test leaves something
// to read (logs, metrics, answers, pg_stat_activity), and no server stops
// without an error once something has been found.
//
// Looked for are the tokens, tickets and secrets that tests make, and also whatever
// has the form of a token or a ticket, be it cut short.

const known = new Set();
const found = [];

const FORMS = /\beyJ[\w-]{8,}\.[\w-]*|\bpevt_[\w-]{8,}/;

/** Remember what is a secret from now on; returns it. */
export function keepSecret(text) {
  if (text.length > 8) known.add(text);
  return text;
}

/** How many are known. */
export const secretCount = () => known.size;

/** The first secret that a text shows, if any. */
export function secretIn(text) {
  for (const secret of known) if (text.includes(secret)) return secret;
  return FORMS.exec(text)?.[0];
}

/** Look through a text that came from the place named. */
export function lookForSecrets(place, text) {
  const secret = secretIn(text);
  if (secret !== undefined) found.push(`${place} shows ${secret}`);
}

/** Throw if anything has been found by now. */
export function insistOnSecrecy() {
  if (found.length > 0) throw new Error(`secrets are shown:\n${found.join('\n')}`);
}
