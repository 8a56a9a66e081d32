// The pages for LuCI in Chromium, with the real daemon behind what rpcd lets them run.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { COLOURS, faults, launch, open, saved, scan } from "./browser.js";
import { binary, startDaemon } from "./daemon.js";
import { evening, HOSTILE, member, party } from "./world.js";

const rpcd = createRequire(import.meta.url)("../openwrt/rpcd.js");
const PACKAGE = fileURLToPath(new URL("../../openwrt/luci-app-lanrage", import.meta.url));
const rights = rpcd.rights(PACKAGE);
const PAGE = '<!doctype html><html lang="en"><head><title>LuCI</title><meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/theme.css"></head>' +
  '<body><main></main><div id="notes" role="status"></div><div id="modal" role="dialog" aria-label="LuCI" hidden></div><script src="/luci.js"></script></body></html>';

let daemon;
let browser;
let router;
/** What the router is like: its user's roles, its settings, and what is said in place of the daemon. */
const state = { roles: ["read", "write"], settings: {}, said: null, language: "en", isDown: false, ran: [] };

/** What a German catalogue says. */
function german() {
  const text = readFileSync(`${PACKAGE}/po/de/lanrage.po`, "utf8");
  return Object.fromEntries([...text.matchAll(/^msgid (".+")\nmsgstr (".*")$/gm)].map(([, id, said]) => [JSON.parse(id), JSON.parse(said)]));
}

async function serve(request, answer) {
  let body = "";
  for await (const piece of request) body += piece;
  const json = (value) => answer.setHeader("Content-Type", "application/json").end(JSON.stringify(value));
  const file = (name, type) => answer.setHeader("Content-Type", type).end(readFileSync(name));
  const path = new URL(request.url, "http://router").pathname;
  if (path === "/") return answer.setHeader("Content-Type", "text/html").end(PAGE);
  if (path === "/favicon.ico") return answer.end();
  if (path === "/role") return json(state.roles);
  if (path === "/words") return json(state.language === "de" ? german() : {});
  if (path === "/uci") return json(state.settings);
  if (path === "/luci.js") return file(fileURLToPath(new URL("luci/luci.js", import.meta.url)), "text/javascript");
  if (path === "/theme.css") return file(fileURLToPath(new URL("luci/theme.css", import.meta.url)), "text/css");
  if (path !== "/exec") return file(`${PACKAGE}/htdocs/luci-static${path}`, "text/javascript");
  const { command, words } = JSON.parse(body);
  const line = [command, ...words].join(" ");
  if (!rights.mayRun(state.roles, line)) return answer.writeHead(403).end();
  state.ran.push(line);
  if (state.said?.[words[0]]) return json({ code: 0, stdout: JSON.stringify(state.said[words[0]]), stderr: "" });
  const { status: code, stdout, stderr } = spawnSync(binary(), words, { env: { LANRAGE_STATE_DIR: state.isDown ? `${daemon.state}/none` : daemon.state }, encoding: "utf8" });
  return json({ code, stdout, stderr });
}

before(async () => {
  daemon = await startDaemon({ PUBLIC_ENDPOINT: "play.example.org:51820" });
  browser = await launch();
  router = http.createServer(serve);
  await new Promise((resolve) => router.listen(0, "127.0.0.1", resolve));
});

after(async () => {
  await browser.close();
  router.closeAllConnections();
  router.close();
  await daemon.stop();
});

/** A page of LuCI on a phone, with a router like this. */
async function show(view, like = {}) {
  Object.assign(state, { roles: ["read", "write"], settings: {}, said: null, language: "en", isDown: false, ran: [] }, like);
  const opened = await open(browser, { viewport: { width: 360, height: 800 } });
  await opened.page.goto(`http://127.0.0.1:${router.address().port}/#${view}`);
  await opened.page.locator("h2").first().waitFor();
  return opened;
}

/** What axe finds in both colours, and what is wider than the phone. The first heading is LuCI's own. */
async function faultsOnPhone(page) {
  const found = [];
  for (const colorScheme of COLOURS) {
    await page.emulateMedia({ colorScheme });
    found.push(...(await faults(page)).filter((fault) => !fault.startsWith("page-has-heading-one")).map((fault) => `${colorScheme} ${fault}`));
  }
  const wide = await page.evaluate(() => [document.documentElement, document.querySelector("#modal")].map((node) => node.scrollWidth - innerWidth));
  return found.concat(wide.filter((pixels) => pixels > 0).map((pixels) => `${pixels} px too wide`));
}

const press = (page, name, within = page) => within.getByRole("button", { name, exact: true }).first().click();

/** An evening with everything on it, and people who call themselves what they like. */
function hostile() {
  const world = evening();
  world.parties.push(party("__proto__", HOSTILE, [member("__proto__", HOSTILE), member("constructor", "x".repeat(100))]));
  return {
    overview: world,
    peers: { party: HOSTILE, party_id: "p", server: "http://games.example.org:8667", ip: "10.66.0.9", interface: "lanrage0", local: true, member: true,
      members: [{ name: HOSTILE, ip: "10.66.0.3", state: "connected", path: "direct on the LAN", rtt_us: 1200, loss_per_mille: 3, received: 1e6, sent: 2e9, handshake_seconds: 5, why_not_direct: HOSTILE }] },
  };
}

test("everything fits a phone, is accessible in both colours, and names are text", async () => {
  for (const [view, like] of [["overview", { said: hostile() }], ["overview", {}], ["settings", {}], ["diagnosis", {}], ["diagnosis", { language: "de" }], ["overview", { language: "de", said: hostile() }], ["settings", { language: "de" }]]) {
    const { context, page, problems } = await show(view, like);
    assert.deepEqual(await faultsOnPhone(page), [], `${view} ${JSON.stringify(like).slice(0, 60)}`);
    assert.deepEqual(problems, []);
    if (like.said) {
      assert.equal(await page.locator("main img").count(), 0);
      assert.ok((await page.locator("main").innerText()).includes(HOSTILE));
    }
    await context.close();
  }
});

test("what is running is said in a word and a colour", async () => {
  const { context, page } = await show("overview");
  const on = page.getByText("running", { exact: true });
  assert.equal(await on.evaluate((node) => getComputedStyle(node).backgroundColor), "rgb(26, 127, 55)");
  await page.getByText("play.example.org:51820").waitFor();
  await context.close();
  for (const view of ["overview", "settings", "diagnosis"]) {
    const { context, page } = await show(view, { isDown: true });
    const off = page.getByText("not running", { exact: true });
    assert.equal(await off.evaluate((node) => getComputedStyle(node).backgroundColor), "rgb(180, 35, 24)");
    await context.close();
  }
});

test("a party is made, a device scans its picture, a friend is invited, and the party is ended", async () => {
  const { context, page, problems } = await show("overview");
  const dialog = page.getByRole("dialog");
  const clean = async () => assert.deepEqual(await faultsOnPhone(page), []);
  await press(page, "New party");
  await clean();
  await dialog.getByLabel("Name").fill(HOSTILE);
  await press(page, "Create the party");
  await page.getByRole("heading", { name: "<img src=x" }).waitFor();

  await press(page, "Add a device");
  await dialog.getByLabel("Whose device is it?").fill("Zoë's phone");
  await press(page, "Add", dialog);
  const picture = dialog.getByRole("img");
  await picture.waitFor();
  await clean();
  const text = await scan(picture);
  assert.match(text, /^\[Interface\]\nPrivateKey = \S{44}\nAddress = 10\.66\.0\.\d+\/16\n/);
  assert.match(text, /^Endpoint = play\.example\.org:51820$/m);
  const file = await saved(page, dialog.getByRole("link", { name: "Save the file" }));
  assert.deepEqual([file.name, file.text], ["Zoe-s-phone.conf", text]);
  const [, privateKey] = /^PrivateKey = (\S{44})$/m.exec(text);
  assert.ok(!state.ran.some((line) => line.includes(privateKey)), "the private key left the browser");
  await press(page, "Close", dialog);
  await page.getByText("Zoë's phone").waitFor();

  await press(page, "Invite");
  await dialog.getByLabel("For how many friends?").fill("3");
  await press(page, "Make an invite");
  const link = await dialog.getByLabel("Link").inputValue();
  assert.match(link, /^http:\/\/play\.example\.org:\d+\/join#[\w-]{22}$/);
  assert.equal(await scan(dialog.getByRole("img")), link);
  await clean();
  await press(page, "Close", dialog);
  await page.getByText("Link: 3 of 3 left").waitFor();

  await press(page, "Settings");
  await clean();
  await dialog.getByLabel("Name").fill("--Other name");
  await press(page, "Save", dialog);
  await page.getByRole("heading", { name: "--Other name" }).waitFor();

  await press(page, "Kick");
  await press(page, "Kick", dialog);
  await page.getByText("Will be removed in a few seconds").waitFor();
  await clean();
  await press(page, "Undo");
  await press(page, "Ban");
  await clean();
  await press(page, "Ban", dialog);
  await page.getByRole("heading", { name: "Banned" }).waitFor({ timeout: 15000 });
  assert.ok(!state.ran.some((line) => line.includes(" kick ")), "it was undone");
  await dialog.waitFor({ state: "hidden" });
  await press(page, "Settings");
  await dialog.getByLabel("Name").fill(HOSTILE);
  await press(page, "Save", dialog);
  await page.getByRole("heading", { name: "<img src=x" }).waitFor();
  await press(page, "End party");
  assert.ok(!(await dialog.innerText()).includes("\u202e"));
  await press(page, "End party", dialog);
  await page.getByText("There are no parties yet.").waitFor();
  assert.equal((await daemon.ask("GET", "/overview")).parties.length, 0);
  assert.deepEqual(problems, []);
  await context.close();
});

test("what keeps friends out is said with what to do, and what happened with when", async () => {
  const { context, page, problems } = await show("diagnosis", { roles: ["read"] });
  await page.getByText("Reached from outside").waitFor();
  await page.getByText("Something is wrong").or(page.getByText("Nothing keeps friends out")).waitFor();
  await page.getByText("was made").first().waitFor();
  await press(page, "Look again");
  await page.getByText("Packet size").waitFor();
  assert.equal(state.ran.filter((line) => line === "/usr/bin/lanrage doctor --json").length, 2);
  assert.deepEqual(problems, []);
  await context.close();
  const german = await show("diagnosis", { roles: ["read"], language: "de" });
  await german.page.getByText("wurde angelegt").first().waitFor();
  assert.match(await german.page.locator("main").innerText(), /Von außen erreicht[^]*Was in letzter Zeit geschah/);
  await german.context.close();
});

test("the settings begin with what everybody needs, and warn of an address that nobody reaches", async () => {
  const { context, page } = await show("settings", { settings: { main: { public_endpoint: "192.168.1.1:51820" } } });
  assert.deepEqual(await page.locator(".pane").first().locator("label").allInnerTexts(), ["Enabled", "Public address"]);
  const warning = page.locator("#lanrage-address");
  assert.match(await warning.innerText(), /own network only/);
  await page.getByLabel("Public address").fill("100.64.3.4:51820");
  assert.match(await warning.innerText(), /provider/);
  await page.getByLabel("Public address").fill("home.example.org:51820");
  assert.ok(await warning.isHidden());
  await press(page, "Advanced");
  await page.getByLabel("Send datagrams in runs").waitFor();
  assert.ok(!(await page.locator("main").innerText()).includes("gso"));
  await context.close();
  const reader = await show("settings", { roles: ["read"] });
  assert.equal(await reader.page.locator("input[type=password]").count(), 0);
  await reader.context.close();
});
