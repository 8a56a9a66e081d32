'use strict';
'require baseclass';

// Keys, QR codes and files of WireGuard: parts of src/api/pages; tests/openwrt/words.rs writes this.

// Key pairs of WireGuard, made in the browser (RFC 7748). Where the page came by plain http there is no
// `crypto.subtle`. The time that BigInt takes depends on the key; nobody can measure it but its owner.

const P = 2n ** 255n - 19n;

function power(base, exponent) {
  let result = 1n;
  for (; exponent; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return result;
}

const integer = (bytes) => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/** The public key of a private one, both 32 bytes. */
function publicKey(secret) {
  const bits = (integer(secret) & ((1n << 255n) - 8n)) | (1n << 254n);
  let [x2, z2, x3, z3] = [1n, 0n, 9n, 1n];
  let swapped = 0n;
  for (let at = 254n; at >= 0n; at--) {
    const bit = (bits >> at) & 1n;
    if (bit !== swapped) [x2, z2, x3, z3] = [x3, z3, x2, z2];
    swapped = bit;
    const [a, b, c, d] = [x2 + z2, x2 - z2, x3 + z3, x3 - z3];
    const [aa, bb, da, cb] = [a * a, b * b, d * a, c * b];
    const e = aa - bb;
    x3 = (da + cb) ** 2n % P;
    z3 = (9n * (da - cb) ** 2n) % P;
    x2 = (aa * bb) % P;
    z2 = (e * (aa + 121665n * e)) % P;
  }
  // The lowest bits of a private key are zero, so nothing is left to swap.
  let u = (((x2 * power(z2, P - 2n)) % P) + P) % P;
  return Uint8Array.from({ length: 32 }, () => {
    const byte = Number(u & 255n);
    u >>= 8n;
    return byte;
  });
}

/** Bytes as WireGuard writes them. */
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

/** A new pair, as WireGuard writes it. */
function newKeys() {
  const secret = crypto.getRandomValues(new Uint8Array(32));
  secret[0] &= 248;
  secret[31] = (secret[31] & 127) | 64;
  return { privateKey: base64(secret), publicKey: base64(publicKey(secret)) };
}

// QR codes (ISO/IEC 18004): bytes, error correction L, versions 1 to 20, so at most 858 bytes. They are drawn here
// because what has a private key in it never goes to the daemon.

const CHECKS = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28];
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8];

const MASKS = [
  (x, y) => (x + y) % 2,
  (x, y) => y % 2,
  (x) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** Bytes of a version, those for correction included. */
function room(version) {
  const aligned = version > 1 ? Math.floor(version / 7) + 2 : 0;
  const patterns = aligned && (25 * aligned - 10) * aligned - 55 + (version > 6 ? 36 : 0);
  return ((16 * version + 128) * version + 64 - patterns) >> 3;
}

/** Multiplies in GF(256) by x^8 + x^4 + x^3 + x^2 + 1. */
function times(a, b) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    if ((b >> bit) & 1) product ^= a;
  }
  return product;
}

/** The Reed-Solomon bytes of a block. */
function correction(data, length) {
  const generator = new Array(length).fill(0);
  generator[length - 1] = 1;
  for (let i = 0, root = 1; i < length; i++, root = times(root, 2)) {
    for (let j = 0; j < length; j++) generator[j] = times(generator[j], root) ^ (generator[j + 1] ?? 0);
  }
  const rest = new Array(length).fill(0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    generator.forEach((term, at) => (rest[at] ^= times(term, factor)));
  }
  return rest;
}

/** Data and correction of all blocks, mixed as they are drawn. */
function codewords(bytes, version) {
  const wide = version > 9 ? 2 : 1;
  const [blocks, checks] = [BLOCKS[version - 1], CHECKS[version - 1]];
  const length = room(version) - blocks * checks;
  // Mode 4 is bytes; each following half byte is in the wrong half.
  const halves = [4];
  for (let at = wide * 2 - 1; at >= 0; at--) halves.push((bytes.length >> (at * 4)) & 15);
  for (const byte of bytes) halves.push(byte >> 4, byte & 15);
  halves.push(0);
  const data = [];
  for (let at = 0; at < halves.length; at += 2) data.push((halves[at] << 4) | (halves[at + 1] ?? 0));
  for (let pad = 0xec; data.length < length; pad ^= 0xec ^ 0x11) data.push(pad);
  const short = Math.floor(length / blocks);
  const longer = length % blocks;
  const parts = [];
  for (let block = 0, at = 0; block < blocks; block++) {
    const end = at + short + (block >= blocks - longer ? 1 : 0);
    parts.push(data.slice(at, end));
    at = end;
  }
  const mixed = [];
  for (let at = 0; at <= short; at++) parts.forEach((part) => at < part.length && mixed.push(part[at]));
  const ends = parts.map((part) => correction(part, checks));
  for (let at = 0; at < checks; at++) ends.forEach((end) => mixed.push(end[at]));
  return mixed;
}

function remainder(value, polynomial, bits) {
  let rest = value;
  for (let i = 0; i < bits; i++) rest = (rest << 1) ^ ((rest >> (bits - 1)) * polynomial);
  return (value << bits) | rest;
}

/** How hard a pattern is to read: the four rules of section 7.8.3. */
function penalty(rows) {
  const size = rows.length;
  let sum = 0;
  let dark = 0;
  for (const lines of [rows, rows.map((_, x) => rows.map((row) => row[x]))]) {
    for (const line of lines) {
      const text = line.map(Number).join("");
      for (const [run] of text.matchAll(/0{5,}|1{5,}/g)) sum += run.length - 2;
      for (const finder of [/(?=00001011101)/g, /(?=10111010000)/g]) sum += 40 * [...text.matchAll(finder)].length;
    }
  }
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      dark += rows[y][x];
      const square = rows[y][x] + rows[y + 1]?.[x] + rows[y][x + 1] + rows[y + 1]?.[x + 1];
      if (square === 0 || square === 4) sum += 3;
    }
  }
  return sum + 10 * Math.floor(Math.abs((dark * 20) / (size * size) - 10));
}

/** The rows of the code of a text, each an array of 0 and 1; null if the text is too long. */
function qr(text) {
  const bytes = new TextEncoder().encode(text);
  let version = 1;
  const fits = () => bytes.length + (version > 9 ? 3 : 2) <= room(version) - BLOCKS[version - 1] * CHECKS[version - 1];
  while (version <= 20 && !fits()) version++;
  if (version > 20) return null;
  const size = version * 4 + 17;
  const rows = Array.from({ length: size }, () => new Array(size).fill(0));
  const fixed = rows.map((row) => row.slice());
  const set = (x, y, value) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    rows[y][x] = Number(value);
    fixed[y][x] = 1;
  };
  for (let at = 0; at < size; at++) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  const rings = (cx, cy, reach, isDark) => {
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) set(cx + x, cy + y, isDark(Math.max(Math.abs(x), Math.abs(y))));
    }
  };
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) rings(x, y, 4, (ring) => ring !== 2 && ring !== 4);
  if (version > 1) {
    const count = Math.floor(version / 7) + 2;
    const step = Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
    const places = Array.from({ length: count }, (_, at) => (at ? size - 7 - (count - 1 - at) * step : 6));
    for (const x of places) {
      for (const y of places) {
        const isFinder = [x, y].every((at) => at === 6 || at === size - 7) && (x === 6 || y === 6);
        if (!isFinder) rings(x, y, 2, (ring) => ring !== 1);
      }
    }
  }
  const format = (mask) => {
    const bits = remainder(8 | mask, 0x537, 10) ^ 0x5412;
    for (let at = 0; at < 15; at++) {
      const bit = (bits >> at) & 1;
      set(8, at < 6 ? at : at < 8 ? at + 1 : size - 15 + at, bit);
      set(at < 8 ? size - 1 - at : at < 9 ? 7 : 14 - at, 8, bit);
    }
    set(8, size - 8, 1);
  };
  format(0);
  if (version > 6) {
    const bits = remainder(version, 0x1f25, 12);
    for (let at = 0; at < 18; at++) {
      const [a, b] = [size - 11 + (at % 3), Math.floor(at / 3)];
      set(a, b, (bits >> at) & 1);
      set(b, a, (bits >> at) & 1);
    }
  }
  const words = codewords(bytes, version);
  let bit = 0;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) {
      const y = (right + 1) & 2 ? step : size - 1 - step;
      for (const x of [right, right - 1]) {
        if (!fixed[y][x]) rows[y][x] = ((words[bit >> 3] ?? 0) >> (7 - (bit++ & 7))) & 1;
      }
    }
  }
  const flip = (mask) => rows.forEach((row, y) => row.forEach((_, x) => (row[x] ^= !fixed[y][x] && MASKS[mask](x, y) === 0)));
  const grades = MASKS.map((_, mask) => {
    format(mask);
    flip(mask);
    const grade = penalty(rows);
    flip(mask);
    return grade;
  });
  const best = grades.indexOf(Math.min(...grades));
  format(best);
  flip(best);
  return rows;
}

function tunnelName(text) {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").replace(/ß/g, "ss");
  const name = plain.replace(/[^a-zA-Z0-9_=+.-]+/g, "-").replace(/^[-.]+/, "").slice(0, 15).replace(/[-.]+$/, "");
  // Windows has no files of these names.
  return /^(con|prn|aux|nul|com\d|lpt\d)?(\.|$)/i.test(name) ? `lan-${name}`.slice(0, 15).replace(/[-.]+$/, "") : name;
}

function fileText(answer, privateKey) {
  const text = answer.text.replace(/^PrivateKey *=.*\n/m, "");
  return privateKey ? text.replace("[Interface]\n", `[Interface]\nPrivateKey = ${privateKey}\n`) : text;
}

return baseclass.extend({ newKeys, qr, tunnelName, fileText });
