// An owner and a friend from the first run to the game, with the daemon's own answers.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import crypto from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { faultsEverywhere, launch, open, saved, scan } from "./browser.js";
import { startDaemon } from "./daemon.js";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const press = (page, name) => page.getByRole("button", { name, exact: true }).first().click();

/** A page that complains, and everything that it sends. */
async function visit(t, url, options) {
  const visited = await open(browser, options);
  visited.sent = [];
  visited.page.on("request", (request) => visited.sent.push(`${request.url()} ${request.postData() ?? ""}`));
  t.after(async () => {
    await visited.context.close();
    assert.deepEqual(visited.problems, []);
  });
  await visited.page.goto(url);
  return visited;
}

/** A link of `lanrage ui`, as this browser reaches the daemon. */
const link = async (daemon) => `${daemon.url}/ui/#${(await daemon.ask("POST", "/ui/setups")).setup}`;

/** What is in the files of the state directory. */
const kept = (folder) => readdirSync(folder).map((name) => join(folder, name)).filter((path) => statSync(path).isFile()).map((path) => readFileSync(path, "latin1")).join();

/** Has wireguard-go take a file and shake hands. It gets no address, so that nothing on this machine is sent through it. */
function connect(t, text) {
  const name = `lanrage-t${process.pid % 10000}`;
  const run = (command, ...words) => execFileSync(command, words, { stdio: "pipe" });
  const file = join("/tmp", `${name}.conf`);
  run("wireguard-go", name);
  t.after(() => {
    run("ip", "link", "delete", name);
    rmSync(file);
  });
  writeFileSync(file, text.replace(/^Address.*\n/m, ""), { mode: 0o600 });
  run("wg", "setconf", name, file);
  run("ip", "link", "set", name, "up");
}

test("first run, invite, guest, first handshake, kick, revoke", async (t) => {
  const daemon = await startDaemon();
  t.after(() => daemon.stop());
  const owner = await visit(t, await link(daemon));
  await owner.page.getByLabel("Address that friends use").fill(`127.0.0.1:${daemon.relayPort}`);
  await owner.page.getByText("own network only").waitFor();
  await press(owner.page, "Save");
  await owner.page.getByLabel("Name of the party").fill("Friday games");
  await press(owner.page, "Create the party");
  await owner.page.getByText("Nobody is in it yet").waitFor();
  await press(owner.page, "Invite");
  await press(owner.page, "Make the invite");
  const code = owner.page.getByRole("img", { name: "QR code of the invite" });
  await code.waitFor();
  const url = await owner.page.getByRole("textbox", { name: "Link" }).inputValue();
  assert.equal(await scan(code), url);
  await press(owner.page, "Close");
  await owner.page.getByText(/1.* of .*1.* left/).waitFor();

  const guest = await visit(t, daemon.url + new URL(url).pathname + new URL(url).hash);
  await guest.page.getByRole("heading", { name: "Friday games" }).waitFor();
  await guest.page.getByLabel("Your nickname").fill("Zoë");
  await press(guest.page, "Make my file");
  const file = await saved(guest.page, guest.page.getByRole("button", { name: "Save my file" }));
  assert.equal(await scan(guest.page.getByRole("img")), file.text);
  await guest.page.getByText("Waiting for WireGuard").waitFor();
  connect(t, file.text);
  await guest.page.locator(".state.on").waitFor({ timeout: 15000 });
  assert.deepEqual(await faultsEverywhere(guest.page), []);
  await owner.page.getByText("online", { exact: true }).waitFor();
  assert.deepEqual(await faultsEverywhere(owner.page), []);

  // Nowhere but in the friend's browser and file.
  const secret = /^PrivateKey = (\S+)$/m.exec(file.text)[1];
  const token = new URL(url).hash.slice(1);
  for (const text of [daemon.log(), kept(daemon.state), ...owner.sent, ...guest.sent]) assert.ok(!text.includes(secret));
  for (const text of [daemon.log(), kept(daemon.state)]) assert.ok(!text.includes(token));
  assert.ok(![...owner.sent, ...guest.sent].some((sent) => sent.split(" ")[0].includes(token)));

  // The invite is used up, and says so.
  const late = await visit(t, daemon.url + new URL(url).pathname + new URL(url).hash);
  await late.page.getByText("used up").waitFor();
  await press(owner.page, "Remove: Zoë");
  await owner.page.locator("dialog").getByRole("button", { name: "Remove" }).click();
  await owner.page.getByText("Nobody is in it yet").waitFor({ timeout: 15000 });
  await owner.page.locator("details summary").last().click();
  assert.match((await owner.page.locator(".events").innerText()).replace(/[\u2068\u2069]/g, ""), /Zoë was taken out of Friday games[^]*Zoë used an invite[^]*Friday games was created/);

  await press(owner.page, "Invite");
  await owner.page.getByLabel("A short code").check();
  await press(owner.page, "Make the invite");
  const typed = await owner.page.getByRole("textbox", { name: "Code" }).inputValue();
  await press(owner.page, "Close");
  const second = await visit(t, `${daemon.url}/join`);
  await second.page.getByLabel("Your code").fill(typed.toLowerCase());
  await press(second.page, "Continue");
  await second.page.getByRole("heading", { name: "Friday games" }).waitFor();
  await owner.page.getByRole("button", { name: /^Revoke/ }).first().click();
  await owner.page.getByText("The invite is revoked").waitFor();
  await second.page.getByLabel("Your nickname").fill("Mallory");
  await press(second.page, "Make my file");
  await second.page.getByRole("alert").getByText("has ended").waitFor();
});

test("a device by its code on the screen, a password, a ban, another name, and the end of a party", async (t) => {
  const daemon = await startDaemon({ PUBLIC_ENDPOINT: "play.example.org:51820" });
  t.after(() => daemon.stop());
  const { party_id: id } = await daemon.ask("POST", "/parties", { name: "LAN", access: "invite" });
  const { page } = await visit(t, await link(daemon));
  await press(page, "Add a device");
  await page.getByLabel("Whose device is it?").fill("Phone");
  await page.keyboard.press("Enter");
  const code = page.getByRole("img", { name: "QR code of the file" });
  await code.waitFor();
  const text = await scan(code);
  assert.match(text, /^Endpoint = play\.example\.org:51820$/m);
  const secret = Buffer.from(/^PrivateKey = (\S+)$/m.exec(text)[1], "base64");
  const der = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), secret]);
  const key = crypto.createPublicKey(crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" })).export({ format: "der", type: "spki" }).subarray(-32);
  const { devices } = await daemon.ask("GET", `/parties/${id}/devices`);
  assert.deepEqual(devices.map(({ name, public_key: known }) => [name, known]), [["Phone", key.toString("base64")]]);
  await press(page, "Close");

  await press(page, "Settings");
  await page.getByLabel("Name of the party").fill("Chess");
  await page.getByLabel("Who may join").selectOption("Who knows the password");
  await page.getByLabel("Password", { exact: true }).fill("sesame");
  await press(page, "Save");
  await page.getByRole("heading", { name: "Chess" }).waitFor();
  const invite = await daemon.ask("POST", `/parties/${id}/invites`);
  const guest = await visit(t, `${daemon.url}/join#${invite.token}`);
  await guest.page.getByLabel("Your nickname").fill("Bob");
  await guest.page.getByLabel("Password of the party").fill("wrong");
  await press(guest.page, "Make my file");
  await guest.page.getByText("That is not the password").waitFor();
  await guest.page.getByLabel("Password of the party").fill("sesame");
  await press(guest.page, "Make my file");
  await guest.page.getByText("Your file is ready").waitFor();

  await press(page, "Remove: Bob");
  await page.getByLabel("Ban: don't let").check();
  await page.locator("dialog").getByRole("button", { name: "Remove" }).click();
  await page.getByText("Banned", { exact: true }).waitFor({ timeout: 15000 });
  assert.equal((await daemon.ask("GET", `/parties/${id}/bans`)).bans.length, 1);
  await page.getByRole("button", { name: /^Lift/ }).first().click();
  await page.getByText("Banned", { exact: true }).waitFor({ state: "detached" });
  await press(page, "Settings");
  await press(page, "Delete this party");
  await page.getByText("Press again").click();
  await page.getByRole("heading", { name: "Your first party" }).waitFor({ timeout: 15000 });
  await press(page, "Sign out");
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
});

test("a link is good once", async (t) => {
  const daemon = await startDaemon({ PUBLIC_ENDPOINT: "play.example.org:51820" });
  t.after(() => daemon.stop());
  const url = await link(daemon);
  const first = await visit(t, url);
  await first.page.getByRole("heading", { name: "Your first party" }).waitFor();
  const second = await visit(t, url);
  await second.page.getByText("This link or session has ended").waitFor();
});

test("without scripts, a form gives the file without a private key", async (t) => {
  const daemon = await startDaemon({ PUBLIC_ENDPOINT: "play.example.org:51820" });
  t.after(() => daemon.stop());
  const { party_id: id } = await daemon.ask("POST", "/parties", { name: "LAN", access: "invite" });
  const invite = await daemon.ask("POST", `/parties/${id}/invites`);
  const { page } = await visit(t, `${daemon.url}/join`, { javaScriptEnabled: false });
  await page.getByLabel("Code").fill(invite.token);
  await page.getByLabel("nickname").fill("Zoë");
  const key = crypto.generateKeyPairSync("x25519").publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("base64");
  await page.getByLabel("Public key").fill(key);
  const file = await saved(page, page.getByRole("button", { name: "Get the file" }));
  assert.equal(file.name, "lanrage.conf");
  assert.match(file.text, /^\[Interface\]\nAddress = 10\.66\.0\.\d+\/16\n\n\[Peer\]\n/);
  assert.doesNotMatch(file.text, /PrivateKey/);
  const { devices } = await daemon.ask("GET", `/parties/${id}/devices`);
  assert.deepEqual(devices.map(({ name, public_key: known }) => [name, known]), [["Zoë", key]]);
});

test("by plain http there is no clipboard and no crypto.subtle, and nothing lacks", async (t) => {
  const daemon = await startDaemon({ PUBLIC_ENDPOINT: "play.example.org:51820", ALLOWED_HOSTS: "router.lan" });
  const insecure = await launch("--host-resolver-rules=MAP router.lan 127.0.0.1");
  t.after(async () => {
    await insecure.close();
    await daemon.stop();
  });
  await daemon.ask("POST", "/parties", { name: "LAN", access: "invite" });
  const { page, problems } = await open(insecure);
  const { setup } = await daemon.ask("POST", "/ui/setups");
  await page.goto(`http://router.lan:${daemon.port}/ui/#${setup}`);
  await press(page, "Invite");
  assert.deepEqual(await page.evaluate(() => [isSecureContext, typeof crypto.subtle, typeof navigator.clipboard]), [false, "undefined", "undefined"]);
  await press(page, "Make the invite");
  const url = await page.getByRole("textbox", { name: "Link" }).inputValue();
  await press(page, "Copy");
  await page.getByRole("button", { name: "Copied" }).waitFor();
  await press(page, "Close");
  await press(page, "New party");
  await page.getByLabel("Name of the party").focus();
  await page.keyboard.press("Control+V");
  assert.equal(await page.getByLabel("Name of the party").inputValue(), url);
  await page.keyboard.press("Escape");
  await press(page, "Add a device");
  await page.getByLabel("Whose device is it?").fill("Phone");
  await page.keyboard.press("Enter");
  assert.match(await scan(page.getByRole("img", { name: "QR code of the file" })), /^PrivateKey = /m);
  assert.deepEqual(problems, []);
});

test("what a page has downloaded, it brings back, with everybody in it", async (t) => {
  const daemon = await startDaemon();
  t.after(() => daemon.stop());
  const { party_id: id } = await daemon.ask("POST", "/parties", { name: "Friday games", access: "invite", permanent: true });
  const { public_key: hub } = (await daemon.ask("GET", "/status")).relay;
  const { page } = await visit(t, await link(daemon));
  await press(page, "Later");
  await press(page, "Backup");
  const file = await saved(page, page.getByRole("button", { name: "Download a backup" }));
  assert.match(file.text, /^\{"secret":"Keep this file like a password\./);
  await daemon.ask("DELETE", `/parties/${id}`);
  await page.locator("input[type=file]").setInputFiles({ name: file.name, mimeType: "", buffer: Buffer.from(file.text) });
  await page.getByLabel("Replace all parties").check();
  await press(page, "Go back to it");
  await page.getByText("lanrage starts anew with the backup").waitFor();
  let known;
  for (let round = 0; round < 100 && !known?.parties?.length; round++) {
    known = await daemon.ask("GET", "/parties").catch(() => null);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(known.parties[0].party_id, id);
  assert.equal((await daemon.ask("GET", "/status")).relay.public_key, hub);
});
