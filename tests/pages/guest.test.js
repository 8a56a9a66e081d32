// The page of who is invited, in Chromium.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import crypto from "node:crypto";
import { ANDROID, WINDOWS, faultsEverywhere, launch, open, saved, scan } from "./browser.js";
import { startDaemon } from "./daemon.js";
import { FILE, HOSTILE, NOW, invited, played } from "./world.js";

const TOKEN = "t0ken_t0ken-t0ken_t0ken";
let daemon, browser;
before(async () => {
  daemon = await startDaemon();
  browser = await launch();
});
after(async () => {
  await browser.close();
  await daemon.stop();
});

/** Opens the page with these answers; afterwards nothing may have gone wrong on it. */
async function visit(t, routes, { path = `/join#${TOKEN}`, ...options } = {}) {
  const visited = await open(browser, options);
  visited.asked = await played(visited.page, routes);
  t.after(async () => {
    await visited.context.close();
    assert.deepEqual(visited.problems, []);
  });
  await visited.page.goto(daemon.url + path);
  return visited;
}

const make = async (page, name = "Zoë") => {
  await page.getByLabel("Your nickname").fill(name);
  await page.getByRole("button", { name: "Make my file" }).click();
};

/** The public key of a file's private one, by OpenSSL. */
function publicKeyIn(text) {
  const secret = Buffer.from(/^PrivateKey = (\S+)$/m.exec(text)[1], "base64");
  const der = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), secret]);
  const key = crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return crypto.createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32).toString("base64");
}

test("from the link to a file that fits the key the daemon got, and to green", async (t) => {
  let self = invited()["GET /devices/self"];
  const { page, asked } = await visit(t, invited({}, { "GET /devices/self": () => self }));
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  assert.equal(new URL(page.url()).hash, "");
  assert.deepEqual(await faultsEverywhere(page), []);
  await make(page);
  const code = page.getByRole("img", { name: "QR code of your file" });
  await code.waitFor();
  const file = await saved(page, page.getByRole("button", { name: "Save my file" }));
  assert.equal(file.name, "Friday-games.conf");
  const redeemed = asked.find(({ what }) => what === "POST /invites/redeem").body;
  assert.deepEqual(redeemed, { token: TOKEN, name: "Zoë", public_key: publicKeyIn(file.text) });
  assert.equal(file.text.replace(/^PrivateKey = .*\n/m, ""), FILE.text);
  assert.doesNotMatch(file.text, /#|^\w+ = *$/m);
  assert.equal(await scan(code), file.text);
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.getByText("Waiting for WireGuard").waitFor();
  self = { ...self, is_online: true, last_handshake: NOW, members: [{ name: HOSTILE, virtual_ip: "10.66.0.2", is_online: true }] };
  await page.getByText("Connected. You are in").waitFor();
  assert.equal(await page.locator(".state.on").count(), 1);
  assert.equal(await page.locator("li bdi").textContent(), HOSTILE);
  assert.equal(asked.at(-1).headers.authorization, `Bearer ${"d".repeat(43)}`);
  assert.deepEqual(await faultsEverywhere(page), []);
  // Neither secret is in an address, and the private key is in nothing that was sent or kept.
  const secret = /^PrivateKey = (\S+)$/m.exec(file.text)[1];
  const kept = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }, location.href]));
  assert.ok(!kept.includes(secret) && !kept.includes(TOKEN));
  for (const { url, body } of asked) assert.ok(!url.includes(TOKEN) && !`${url}${JSON.stringify(body)}`.includes(secret));
});

test("after a reload the page still waits, and says why the file is gone", async (t) => {
  const { page } = await visit(t, invited());
  await make(page);
  await saved(page, page.getByRole("button", { name: "Save my file" }));
  await page.reload();
  await page.getByText("can't be shown again").waitFor();
  await page.getByText("Waiting for WireGuard").waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
});

test("an answer that was lost is asked for again with the same key", async (t) => {
  let tries = 0;
  const answer = invited()["POST /invites/redeem"];
  const { page, asked } = await visit(t, invited({}, { "POST /invites/redeem": () => (tries++ ? answer : null) }));
  await make(page);
  await page.getByText("The server doesn't answer").waitFor();
  assert.equal(await page.getByLabel("Your nickname").inputValue(), "Zoë");
  await page.getByRole("button", { name: "Make my file" }).click();
  await page.getByText("Your file is ready").waitFor();
  const keys = asked.filter(({ what }) => what === "POST /invites/redeem").map(({ body }) => body.public_key);
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
});

test("an invite that is no more says so, and what to do", async (t) => {
  const used = "This invite is used up; ask for a new one";
  const full = "Too many peers in this party: at most 64; remove one first";
  for (const [status, words, detail = "no"] of [
    [404, "Nobody knows this invite"], [409, "used up", used], [409, "The party is full", full], [410, "has ended"],
    [429, "Too many tries"], [503, "can let nobody in just now"],
  ]) {
    const { page, problems } = await visit(t, { "POST /invites/preview": [status, { detail }] });
    await page.getByRole("alert").getByText(words).waitFor();
    assert.deepEqual(await faultsEverywhere(page), []);
    assert.deepEqual(problems, []);
  }
});

test("a code is typed as people type", async (t) => {
  let isRight = false;
  const { page, asked } = await visit(t, invited({}, { "POST /invites/preview": () => (isRight ? invited()["POST /invites/preview"] : [404, { detail: "no" }]) }), { path: "/join" });
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.getByLabel("Your code").fill("ab2c-d3ef");
  await page.keyboard.press("Enter");
  await page.getByText("Nobody knows this invite").waitFor();
  isRight = true;
  await page.getByLabel("Your code").fill(" ab2c d3eg ");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  assert.deepEqual(asked.map(({ body }) => body.code), ["AB2CD3EF", "AB2CD3EG"]);
  await make(page);
  await page.getByText("Your file is ready").waitFor();
  assert.equal(asked.find(({ what }) => what === "POST /invites/redeem").body.code, "AB2CD3EG");
});

test("a party's password is asked for, and asked for again", async (t) => {
  const right = invited()["POST /invites/redeem"];
  const { page } = await visit(t, invited({ needs_password: true }, { "POST /invites/redeem": ({ password }) => (password === "right" ? right : [403, { detail: "wrong" }]) }));
  await page.getByLabel("Password of the party").fill("wrong");
  await make(page);
  await page.getByText("That is not the password").waitFor();
  await page.getByLabel("Password of the party").fill("right");
  await page.keyboard.press("Enter");
  await page.getByText("Your file is ready").waitFor();
});

test("a phone saves first and has the code folded away; Windows is told of its firewall", async (t) => {
  const phone = await visit(t, invited(), { userAgent: ANDROID, viewport: { width: 360, height: 740 }, hasTouch: true });
  await make(phone.page);
  await phone.page.getByRole("button", { name: "Save my file" }).waitFor();
  assert.equal(await phone.page.getByRole("img").count(), 0);
  assert.equal(await phone.page.getByText("Windows").count(), 0);
  await phone.page.locator("summary").click();
  assert.equal(await phone.page.getByRole("img").count(), 1);
  // A poll goes by, and what was opened stays open.
  await phone.page.waitForTimeout(3500);
  assert.equal(await phone.page.getByRole("img").count(), 1);
  const pc = await visit(t, invited(), { userAgent: WINDOWS });
  await make(pc.page);
  await pc.page.getByText("tick “Public”").waitFor();
  assert.equal(await pc.page.getByRole("img").count(), 1);
});

test("names are text, whatever is in them", async (t) => {
  const { page } = await visit(t, invited({ party: HOSTILE, host: HOSTILE }, { "POST /invites/redeem": { ...FILE, party: HOSTILE, device_token: "d".repeat(43) } }));
  assert.equal(await page.locator("h1").textContent(), HOSTILE);
  assert.ok((await page.locator(".lead").textContent()).includes(HOSTILE));
  assert.equal(await page.locator("main img").count(), 0);
  assert.deepEqual(await faultsEverywhere(page), []);
  await make(page, HOSTILE);
  assert.match((await saved(page, page.getByRole("button", { name: "Save my file" }))).name, /^[a-zA-Z0-9_=+.-]{1,15}\.conf$/);
});

test("by keyboard alone", async (t) => {
  const { page } = await visit(t, invited());
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.type("Zoë");
  await page.keyboard.press("Enter");
  await page.getByText("Your file is ready").waitFor();
  for (let i = 0; i < 2; i++) await page.keyboard.press("Tab");
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  assert.equal(download.suggestedFilename(), "Friday-games.conf");
  // The focus stays where it is when a poll redraws the page.
  await page.waitForTimeout(3500);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Save my file");
});

test("German, by the browser's language or a click", async (t) => {
  const german = await visit(t, invited(), { locale: "de-AT" });
  await german.page.getByText("lädt dich ein zu").waitFor();
  assert.equal(await german.page.evaluate(() => document.documentElement.lang), "de");
  assert.deepEqual(await faultsEverywhere(german.page), []);
  const english = await visit(t, invited());
  await english.page.getByLabel("Your nickname").fill("Zoë");
  await english.page.getByRole("button", { name: "Deutsch" }).click();
  assert.equal(await english.page.getByLabel("Dein Spitzname").inputValue(), "Zoë");
});

test("a slow daemon is waited for, once", async (t) => {
  const answer = invited()["POST /invites/redeem"];
  const slow = () => new Promise((resolve) => setTimeout(() => resolve(answer), 1500));
  const { page, asked } = await visit(t, invited({}, { "POST /invites/redeem": slow }));
  await make(page);
  await page.getByRole("button", { name: "Working…" }).click({ force: true });
  await page.getByText("Your file is ready").waitFor();
  assert.equal(asked.filter(({ what }) => what === "POST /invites/redeem").length, 1);
});

test("without scripts there is a form", async (t) => {
  const { page } = await visit(t, {}, { javaScriptEnabled: false });
  await page.getByLabel("Public key").waitFor();
  assert.equal(await page.locator("form").getAttribute("action"), "/join");
  assert.equal(await page.locator("form").getAttribute("method"), "post");
});
