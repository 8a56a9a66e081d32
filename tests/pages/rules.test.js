// How pages are served, what they may do, and what pages of others may not.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { launch, open } from "./browser.js";
import { startDaemon } from "./daemon.js";

const ADMIN = "an-admin-token-for-tests";
let daemon;
before(async () => (daemon = await startDaemon({ ADMIN_TOKEN: ADMIN })));
after(() => daemon.stop());

/** An answer as it is on the wire. */
const ask = (path, headers = {}) =>
  new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port: daemon.port, path, headers }, async (answer) => {
      const pieces = [];
      for await (const piece of answer) pieces.push(piece);
      resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces) });
    });
    request.on("error", reject);
  });

const PAGES = { "/ui/": 25_000, "/join": 12_000 };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** All that a page needs: itself and what it names. */
async function files(page) {
  const names = [...gunzipSync((await ask(page)).body).toString().matchAll(/(?:href|src)="(\/[^"]+)"/g)].map(([, name]) => name);
  return [page, ...names];
}

test("a page is small and takes few requests", async () => {
  for (const [page, most] of Object.entries(PAGES)) {
    const all = await files(page);
    let size = 0;
    for (const name of all) size += (await ask(name)).body.length;
    console.log(`${page}: ${size} bytes in ${all.length} requests`);
    assert.ok(size <= most, `${page} has ${size} bytes`);
    assert.ok(all.length <= 4, all.join());
  }
});

test("every file has its type, its policy and a tag", async () => {
  for (const page of [...Object.keys(PAGES), "/ui"]) {
    for (const name of await files(page)) {
      const { status, headers, body } = await ask(name);
      assert.equal(status, 200, name);
      const type = name.endsWith(".js") ? "text/javascript" : name.endsWith(".css") ? "text/css" : "text/html";
      assert.equal(headers["content-type"], `${type}; charset=utf-8`);
      assert.equal(headers["content-encoding"], "gzip");
      assert.equal(headers["content-security-policy"], POLICY);
      assert.equal(headers["x-content-type-options"], "nosniff");
      assert.equal(headers["referrer-policy"], "no-referrer");
      // By plain http browsers complain of it.
      assert.equal(headers["cross-origin-opener-policy"], undefined);
      assert.equal(headers["cache-control"], "no-cache");
      assert.equal(headers["access-control-allow-origin"], undefined);
      const again = await ask(name, { "If-None-Match": headers.etag });
      assert.equal(again.status, 304);
      assert.equal(again.body.length, 0);
      const text = gunzipSync(body).toString();
      assert.doesNotMatch(text, /<script(?![^>]*src)|<style|\sstyle=|\son[a-z]+="|^export |^import /m, name);
    }
  }
});

test("the owner's page is for names that are ours, the guest's for everybody", async () => {
  for (const host of ["127.0.0.1", "localhost:8667", "[::1]:8667", "192.168.1.1"]) {
    assert.equal((await ask("/ui/", { Host: host })).status, 200, host);
  }
  for (const path of ["/ui", "/ui/", "/ui/owner.js", "/ui/owner.css"]) {
    assert.equal((await ask(path, { Host: "evil.example" })).status, 403, path);
  }
  for (const path of ["/join", "/join/guest.js", "/join/guest.css"]) {
    assert.equal((await ask(path, { Host: "party.example.org" })).status, 200, path);
  }
  for (const path of ["/ui/../status", "/ui/%2e%2e/status", "/ui/owner.html", "/ui/x", "/join/", "/join/x", "/join/owner.js"]) {
    assert.equal((await ask(path)).status, 404, path);
  }
});

test("a page whose name was rebound to us reads nothing of the owner's", async (t) => {
  const browser = await launch(`--host-resolver-rules=MAP rebound.example 127.0.0.1`);
  t.after(() => browser.close());
  const { page } = await open(browser);
  // The guest's page is for everybody: what runs there under a foreign name is what an attacker's page would be.
  await page.goto(`http://rebound.example:${daemon.port}/join`);
  const read = (path) => page.evaluate(async (path) => (await fetch(path)).status, path);
  for (const path of ["/ui/", "/ui/owner.js", "/status", "/metrics"]) assert.equal(await read(path), 403, path);
  const asAdmin = (path) => page.evaluate(async ([path, token]) => (await fetch(path, { headers: { Authorization: `Bearer ${token}` } })).status, [path, ADMIN]);
  for (const path of ["/parties", "/backup?secrets=redacted"]) assert.equal(await asAdmin(path), 403, path);
  const posted = await page.evaluate(async () => (await fetch("/auth/register?peer_id=x", { method: "POST" })).status);
  assert.equal(posted, 403);
});

test("a page of another origin can't use us", async (t) => {
  const attacker = http.createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<!doctype html><title>x</title><p>x"));
  await new Promise((resolve) => attacker.listen(0, "127.0.0.1", resolve));
  const browser = await launch();
  t.after(async () => {
    await browser.close();
    attacker.closeAllConnections();
    attacker.close();
  });
  const { page } = await open(browser);
  await page.goto(`http://localhost:${attacker.address().port}/`);
  const outcome = await page.evaluate(async (url) => {
    const said = (promise) => promise.then((answer) => answer.type === "opaque" ? "opaque" : "read", () => "refused");
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws`);
    const opened = new Promise((resolve) => {
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("refused");
    });
    const frame = document.createElement("iframe");
    frame.src = `${url}/ui/`;
    document.body.append(frame);
    await new Promise((resolve) => (frame.onload = resolve));
    let isSeen;
    try {
      isSeen = frame.contentWindow.document.body.textContent.length > 0;
    } catch {
      isSeen = false;
    }
    return {
      status: await said(fetch(`${url}/status`)),
      register: await said(fetch(`${url}/auth/register?peer_id=mallory`, { method: "POST" })),
      blind: await said(fetch(`${url}/auth/register?peer_id=mallory`, { method: "POST", mode: "no-cors" })),
      socket: await opened,
      isSeen,
    };
  }, daemon.url);
  assert.deepEqual(outcome, { status: "refused", register: "refused", blind: "opaque", socket: "refused", isSeen: false });
  // Sent blindly or not, nobody was registered.
  const status = await (await fetch(`${daemon.url}/status`)).json();
  assert.equal(status.tokens, 0);
});
