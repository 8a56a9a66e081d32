// What the pages compute, without a browser.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import jsqr from "jsqr";

// Node 18 has it under another name alone.
globalThis.crypto ??= crypto.webcrypto;

const SOURCES = new URL("../../src/api/pages/", import.meta.url);
/** A module of the pages. They are no package: they are loaded as texts. */
async function load(name) {
  const text = readFileSync(new URL(name, SOURCES), "utf8").replace(/^import .*$/gm, "");
  return import(`data:text/javascript,${encodeURIComponent(text)}`);
}
const { publicKey, newKeys } = await load("x25519.js");
const { qr } = await load("qr.js");
const { tunnelName, fileText } = await load("device.js");

/** The public key of a private one, by OpenSSL. */
function byOpenssl(secret) {
  const der = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), secret]);
  const key = crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return crypto.createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
}

test("public keys are those of OpenSSL", () => {
  const secrets = [Buffer.alloc(32), Buffer.alloc(32, 255), Buffer.from([1, ...Buffer.alloc(31)])];
  for (let i = 0; i < 100; i++) secrets.push(crypto.randomBytes(32));
  for (const secret of secrets) assert.deepEqual(Buffer.from(publicKey(secret)), byOpenssl(secret), secret.toString("hex"));
});

test("a new pair is clamped, belongs together, and is another one each time", () => {
  const seen = new Set();
  for (let i = 0; i < 20; i++) {
    const pair = newKeys();
    const secret = Buffer.from(pair.privateKey, "base64");
    assert.equal(secret.length, 32);
    assert.equal(secret[0] & 7, 0);
    assert.equal(secret[31] & 192, 64);
    assert.equal(pair.publicKey, byOpenssl(secret).toString("base64"));
    seen.add(pair.privateKey);
  }
  assert.equal(seen.size, 20);
});

/** What a reader makes of the rows. */
function read(rows) {
  const scale = 3;
  const size = (rows.length + 8) * scale;
  const pixels = new Uint8ClampedArray(size * size * 4).fill(255);
  rows.forEach((row, y) => row.forEach((dark, x) => {
    for (let i = 0; dark && i < scale * scale; i++) {
      const at = (((y + 4) * scale + Math.floor(i / scale)) * size + (x + 4) * scale + (i % scale)) * 4;
      pixels.fill(0, at, at + 3);
    }
  }));
  return jsqr(pixels, size, size)?.data;
}

test("QR codes of every version are read", () => {
  const most = [17, 32, 53, 78, 106, 134, 154, 192, 230, 271, 321, 367, 425, 458, 520, 586, 644, 718, 792, 858];
  most.forEach((length, at) => {
    for (const bytes of [length, length - 1, length - 13]) {
      const text = crypto.randomBytes(bytes).toString("base64").slice(0, bytes);
      const rows = qr(text);
      if (bytes === length) assert.equal(rows.length, 21 + 4 * at, `${length} bytes`);
      assert.equal(read(rows), text, `${bytes} bytes`);
    }
  });
  assert.equal(read(qr("Zoë 🎮")), "Zoë 🎮");
  assert.equal(qr("x".repeat(859)), null);
});

test("tunnels get names that WireGuard's apps take", () => {
  const names = { "Friday games": "Friday-games", "Zoë's phone": "Zoe-s-phone", "Straßenfest": "Strassenfest", "../../etc": "etc", "...": "lan", "  ": "lan", "": "lan", "日本": "lan", con: "lan-con", "com1.x": "lan-com1.x", "-rf": "rf", "a very long name of a party": "a-very-long-nam", "\u202egnp.exe": "gnp.exe", "<b>&\"'`": "b", "a\nb/c\\d": "a-b-c-d" };
  for (const [text, name] of Object.entries(names)) {
    assert.equal(tunnelName(text), name);
    assert.match(name, /^[a-zA-Z0-9_=+.-]{1,15}$/);
  }
});

test("a file has the key that it belongs to, and no empty field", () => {
  const text = "[Interface]\nAddress = 10.66.0.5/16\n\n[Peer]\nPublicKey = x\n";
  assert.equal(fileText({ text }, "SECRET"), "[Interface]\nPrivateKey = SECRET\nAddress = 10.66.0.5/16\n\n[Peer]\nPublicKey = x\n");
  assert.equal(fileText({ text }, null), text);
});

test("both languages say everything", async () => {
  for (const name of ["guest_words.js", "owner_words.js"]) {
    const { WORDS } = await load(name);
    for (const [key, words] of Object.entries(WORDS)) {
      assert.equal(words.length, 2, key);
      const [english, german] = words.map((text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort());
      assert.deepEqual(english, german, key);
      assert.ok(words.every((text) => text.trim()), key);
    }
    const users = ["guest.js", "owner.js", "session.js", "forms.js", "dialogs.js", "party.js"];
    const sources = users.map((file) => readFileSync(new URL(file, SOURCES), "utf8")).join();
    const isUsed = (key) => new RegExp(`"${key}"`).test(sources) || /^(event|kind|access|path)_/.test(key);
    assert.deepEqual(Object.keys(WORDS).filter((key) => !isUsed(key)), [], name);
  }
});

test("what the daemon says is known in German", async () => {
  const { GERMAN } = await load("owner_words.js");
  const found = readFileSync(new URL("../../src/api/troubles.rs", import.meta.url), "utf8");
  const troubles = [...found.matchAll(/find\(\s*"(\w+)"/g)].flatMap(([, word]) => [`trouble_${word}`, `do_${word}`]);
  const { REFUSED } = await load("owner_words.js");
  const sources = ["control/refusal.rs", "api.rs", "api/access.rs", "api/owner.rs", "api/admin.rs", "daemon/service.rs", "store/dump_request.rs", "durability.rs"].map((file) => readFileSync(new URL(`../../src/${file}`, import.meta.url), "utf8"));
  for (const [begin, german] of REFUSED) assert.ok(german && sources.join().includes(`"${begin}`), begin);
  assert.ok(troubles.length > 8);
  assert.deepEqual(Object.keys(GERMAN).sort(), troubles.sort());
});

test("nothing on the pages is made of markup", () => {
  for (const file of ["dom.js", "device.js", "guest.js", "owner.js", "session.js", "forms.js", "dialogs.js", "party.js"]) {
    const text = readFileSync(new URL(file, SOURCES), "utf8");
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|javascript:/, file);
  }
});
