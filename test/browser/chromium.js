// Headless Chromium with a profile of its own, gone afterwards. To it, the name
// evil.example leads to this machine.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';

/** A browser for the length of a test file; its pages are made by `newPage()`. */
export function useBrowser() {
  const held = {};
  let userData;
  before(async () => {
    userData = fs.mkdtempSync(path.join(os.tmpdir(), 'pev-browser-'));
    held.browser = await chromium.launchPersistentContext(userData, {
      executablePath: process.env.PEV_CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP evil.example 127.0.0.1',
      ],
    });
  });
  after(async () => {
    await held.browser?.close();
    if (userData) fs.rmSync(userData, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }); // its children may still write
  });
  return { newPage: () => held.browser.newPage(), clearCookies: () => held.browser.clearCookies() };
}
