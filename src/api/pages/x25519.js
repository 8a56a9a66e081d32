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
export function publicKey(secret) {
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
export const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

/** A new pair, as WireGuard writes it. */
export function newKeys() {
  const secret = crypto.getRandomValues(new Uint8Array(32));
  secret[0] &= 248;
  secret[31] = (secret[31] & 127) | 64;
  return { privateKey: base64(secret), publicKey: base64(publicKey(secret)) };
}
