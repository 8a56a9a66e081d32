// The file of a device: its text, its name, and how it gets to where the WireGuard app is.
import { h, svg } from "./dom.js";
import { qr } from "./qr.js";

/** A name that WireGuard's apps take for a tunnel (1 to 15 of A-Z a-z 0-9 _ = + . -), made of somebody's. */
export function tunnelName(text) {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").replace(/ß/g, "ss");
  const name = plain.replace(/[^a-zA-Z0-9_=+.-]+/g, "-").replace(/^[-.]+/, "").slice(0, 15).replace(/[-.]+$/, "");
  // Windows has no files of these names.
  return /^(con|prn|aux|nul|com\d|lpt\d)?(\.|$)/i.test(name) ? `lan-${name}`.slice(0, 15).replace(/[-.]+$/, "") : name;
}

/** The file: what the daemon sent, with the private key that it does not know. */
export function fileText(answer, privateKey) {
  const text = answer.text.replace(/^PrivateKey *=.*\n/m, "");
  return privateKey ? text.replace("[Interface]\n", `[Interface]\nPrivateKey = ${privateKey}\n`) : text;
}

/** Saves something as a file. Android renames what is text/plain. */
export function save(name, content) {
  const link = h("a", { download: name, href: URL.createObjectURL(new Blob([content], { type: "application/octet-stream" })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** A picture of the QR code of a text, dark on light whatever the page's colours are; null if it is too long. */
export function picture(text, label) {
  const rows = qr(text);
  if (!rows) return null;
  const size = rows.length + 8;
  const path = rows.map((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : "")).join("")).join("");
  return svg(
    "svg",
    { viewBox: `0 0 ${size} ${size}`, class: "qr", role: "img", "aria-label": label, "shape-rendering": "crispEdges" },
    svg("path", { d: `M0 0h${size}v${size}H0z`, fill: "#fff" }),
    svg("path", { d: path, fill: "#000" }),
  );
}
