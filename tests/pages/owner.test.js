// The owner's page, in Chromium.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { after, before, test } from "node:test";
import { faultsEverywhere, launch, open, saved, scan } from "./browser.js";
import { startDaemon } from "./daemon.js";
import { FILE, HOSTILE, NOW, evening, member, overview, owned, party, played } from "./world.js";

let daemon, browser;
before(async () => {
  daemon = await startDaemon();
  browser = await launch();
});
after(async () => {
  await browser.close();
  await daemon.stop();
});

/** Opens the page by a link of `lanrage ui`, with these answers; afterwards nothing may have gone wrong on it. */
async function visit(t, routes, { path = "/ui/#setup-token", ...options } = {}) {
  const visited = await open(browser, options);
  visited.asked = await played(visited.page, routes);
  t.after(async () => {
    await visited.context.close();
    assert.deepEqual(visited.problems, []);
  });
  await visited.page.goto(daemon.url + path);
  return visited;
}

const press = (page, name) => page.getByRole("button", { name, exact: true }).first().click();
const done = (asked, what) => asked.filter((one) => one.what === what);

test("a link signs in once; the token is kept for this tab and the link is gone", async (t) => {
  const { page, asked } = await visit(t, owned(evening()));
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  assert.equal(new URL(page.url()).hash, "");
  assert.deepEqual(asked[0].body, { setup: "setup-token" });
  assert.ok(!asked.some(({ url }) => url.includes("setup-token")));
  assert.ok(asked.slice(1).every(({ headers }) => headers.authorization === `Bearer ${"s".repeat(43)}`));
  assert.deepEqual(await page.context().cookies(), []);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await page.reload();
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  assert.equal(done(asked, "POST /ui/sessions").length, 1);
  await press(page, "Sign out");
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(done(asked, "DELETE /ui/sessions").length, 1);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("who has no link is told how to get one, and may use the admin token", async (t) => {
  const routes = owned(evening(), { "POST /ui/sessions": ({ admin_token: token }) => (token === "right" ? { token: "s" } : [403, { detail: "Not the admin token" }]) });
  const { page } = await visit(t, routes, { path: "/ui/#stale" });
  await page.getByText("This link or session has ended").waitFor();
  await page.getByText("lanrage ui").waitFor();
  await page.locator("summary").click();
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.getByLabel("Admin token").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("Not the admin token").waitFor();
  await page.getByLabel("Admin token").fill("right");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
});

test("the first run asks for the address and warns of those that friends can't use, then for a party", async (t) => {
  let known = overview([], { endpoint: null });
  const { page, asked } = await visit(t, owned(() => known, {
    "POST /ui/settings": ({ public_endpoint: endpoint }) => ((known = { ...known, endpoint }), { status: "ok" }),
    "POST /parties": ({ name }) => ((known = { ...known, parties: [party("p", name)] }), { party_id: "p" }),
  }));
  const address = page.getByLabel("Address that friends use");
  const words = { "100.64.0.1": "inside your provider", "100.127.9.9:1": "inside your provider", "192.168.1.1": "own network only", "10.0.0.1:51820": "own network only", "172.31.0.1": "own network only", "[fd00::1]:51820": "own network only", router: "own network only", "router.lan": "own network only", "a b": "This is no address", "host:99999": "This is no address" };
  for (const [text, warning] of Object.entries(words)) {
    await address.fill(text);
    await page.getByText(warning).waitFor();
  }
  assert.deepEqual(await faultsEverywhere(page), []);
  for (const text of ["play.example.org", "203.0.113.7:51820", "100.63.0.1", "100.128.0.1", "172.32.0.1", "[2001:db8::1]:51820", "2001:db8::1"]) {
    await address.fill(text);
    assert.equal(await page.locator(".state.warn:visible").count(), 0, text);
  }
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Your first party" }).waitFor();
  assert.deepEqual(done(asked, "POST /ui/settings")[0].body, { public_endpoint: "[2001:db8::1]:51820" });
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.getByLabel("Name of the party").fill("Friday games");
  await page.keyboard.press("Enter");
  await page.getByText("Nobody is in it yet").waitFor();
  assert.deepEqual(done(asked, "POST /parties")[0].body, { name: "Friday games", access: "invite", permanent: true });
});

test("what is going on is there in words, with nothing wrong for any reader", async (t) => {
  const { page, asked } = await visit(t, owned(evening()));
  await page.getByText("Reached from the internet").waitFor();
  for (const words of ["3 of 4 online", "direct", "23 hours ago|yesterday", "63 ms", "12 packets dropped: There is no hub session", "the disk is full", "Free some space", "4,321 packets dropped", "1 of 3 left", "mallory"]) {
    assert.match((await page.locator("main").innerText()).replace(/[\u2068\u2069]/g, ""), new RegExp(words), words);
  }
  await page.locator("details summary").last().click();
  await page.getByText("joined").first().waitFor();
  assert.match(await page.locator(".events").innerText(), /The relay at 203.0.113.9 is gone[^]*Bob's phone.* joined .*Friday games[^]*was created/);
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.waitForTimeout(3500);
  assert.equal(await page.getByText("joined").first().isVisible(), true, "what was opened stays open");
  assert.equal(done(asked, "GET /events").length, 1, "what is known is not asked for again");
});

test("it asks every three seconds, with the tag that it has, and only while somebody looks", async (t) => {
  const tags = [];
  const { page, context } = await visit(t, owned(evening(), {
    "GET /overview": (_, request) => (tags.push(request.headers()["if-none-match"]), request.headers()["if-none-match"] ? [304, null, { ETag: '"1"' }] : [200, evening(), { ETag: '"1"' }]),
  }));
  await page.waitForTimeout(7000);
  assert.deepEqual(tags, [undefined, '"1"', '"1"']);
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  const other = await context.newPage();
  await other.bringToFront();
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.waitForTimeout(4000);
  const before = tags.length;
  await page.waitForTimeout(4000);
  assert.equal(tags.length, before);
});

test("a device: the file on the screen is the one saved, and its key never leaves the browser", async (t) => {
  let known = evening();
  const { page, asked } = await visit(t, owned(() => known, { "POST /parties/p1/devices": { ...FILE, name: "Zoë's phone" } }));
  await press(page, "Add a device");
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.getByLabel("Whose device is it?").fill(" Zoë's phone ");
  await page.keyboard.press("Enter");
  const code = page.getByRole("img", { name: "QR code of the file" });
  await code.waitFor();
  const file = await saved(page, page.getByRole("button", { name: "Save file" }));
  assert.equal(file.name, "Zoe-s-phone.conf");
  assert.equal(await scan(code), file.text);
  const secret = Buffer.from(/^PrivateKey = (\S+)$/m.exec(file.text)[1], "base64");
  const der = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), secret]);
  const key = crypto.createPublicKey(crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
  const sent = done(asked, "POST /parties/p1/devices")[0].body;
  assert.deepEqual(sent, { name: "Zoë's phone", public_key: key.export({ format: "der", type: "spki" }).subarray(-32).toString("base64") });
  assert.ok(!JSON.stringify(asked).includes(secret.toString("base64")));
  assert.deepEqual(await faultsEverywhere(page), []);
  known.parties[0].members.push(member("device-1", "Zoë's phone", { kind: "device" }));
  await page.locator("dialog .state.on").waitFor();
  await press(page, "Close");
  assert.equal(await page.locator("dialog").count(), 0);
});

test("who has a key already gets a file without one, and no code", async (t) => {
  const { page, asked } = await visit(t, owned(evening(), { "POST /parties/p1/devices": FILE }));
  await press(page, "Add a device");
  await page.getByLabel("Whose device is it?").fill("Zoë");
  await page.locator("dialog summary").click();
  const own = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=";
  await page.getByLabel("Public key of the app").fill(own);
  await page.keyboard.press("Enter");
  const file = await saved(page, page.getByRole("button", { name: "Save file" }));
  assert.equal(file.text, FILE.text);
  assert.equal(await page.locator("dialog svg").count(), 0);
  assert.equal(done(asked, "POST /parties/p1/devices")[0].body.public_key, own);
});

test("an invite: one friend and a day, a link that is read from the screen, and back again", async (t) => {
  const url = `http://192.168.1.1:8667/join#${"t".repeat(22)}`;
  const { page, asked } = await visit(t, owned(evening(), {
    "POST /parties/p1/invites": ({ code }) => ({ invite_id: "i9", uses: 1, expires_at: NOW + 86400, ...(code ? { code: "AB2CD3EF" } : { token: "t".repeat(22), url }) }),
    "DELETE /parties/p1/invites/i1": { status: "revoked" },
  }));
  await press(page, "Invite");
  assert.deepEqual(await faultsEverywhere(page), []);
  await press(page, "Make the invite");
  const code = page.getByRole("img", { name: "QR code of the invite" });
  await code.waitFor();
  assert.deepEqual(done(asked, "POST /parties/p1/invites")[0].body, { uses: 1, expires_in: 86400, code: false });
  assert.equal(await page.getByLabel("Link").inputValue(), url);
  assert.equal(await scan(code), url);
  await press(page, "Copy");
  await page.getByRole("button", { name: /Copied|Selected/ }).waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.keyboard.press("Escape");
  await press(page, "Invite");
  await page.getByLabel("For how many friends").fill("5");
  await page.getByLabel("Until").selectOption("7 days");
  await page.getByLabel("A short code").check();
  await press(page, "Make the invite");
  await page.getByText("To type in").waitFor();
  assert.equal(await page.getByRole("textbox", { name: "Code" }).inputValue(), "AB2CD3EF");
  assert.deepEqual(done(asked, "POST /parties/p1/invites")[1].body, { uses: 5, expires_in: 86400, code: true });
  await press(page, "Close");
  await page.getByRole("button", { name: /^Revoke: .*1.* of .*3/ }).click();
  await page.getByText("The invite is revoked").waitFor();
  assert.equal(done(asked, "DELETE /parties/p1/invites/i1").length, 1);
});

test("who is removed stays for five seconds, in which it can be undone", async (t) => {
  const { page, asked } = await visit(t, owned(evening(), { "DELETE /parties/p1/peers/bob": { status: "kicked" } }));
  const remove = async (revoke) => {
    await press(page, "Remove: Bob's phone");
    if (revoke) await page.getByLabel("Also revoke the invite").check();
    await page.locator("dialog").getByRole("button", { name: "Remove" }).click();
    await page.locator(".leaving").waitFor();
  };
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  await remove(false);
  // The button has the focus: whoever has but a keyboard is in time, too.
  await page.keyboard.press("Enter");
  await page.getByText("Nothing was removed").waitFor();
  await page.waitForTimeout(6000);
  assert.equal(done(asked, "DELETE /parties/p1/peers/bob").length, 0);
  await remove(true);
  await page.waitForTimeout(4000);
  assert.equal(done(asked, "DELETE /parties/p1/peers/bob").length, 0);
  await page.waitForTimeout(2000);
  assert.deepEqual(done(asked, "DELETE /parties/p1/peers/bob").map(({ query }) => query), ["?revoke_invite=1"]);
});

test("the offer to undo is there for every reader", async (t) => {
  const { page } = await visit(t, owned(evening()), { path: "/ui/" });
  // Looking takes longer than five seconds.
  await page.addInitScript(() => {
    const later = window.setTimeout;
    window.setTimeout = (work, wait) => later(work, wait === 5000 ? 60000 : wait);
  });
  // Another page in between: the same one with a secret behind it would not be loaded anew.
  await page.goto("about:blank");
  await page.goto(`${daemon.url}/ui/#setup-token`);
  await press(page, "Remove: Bob's phone");
  await page.locator("dialog").getByRole("button", { name: "Remove" }).click();
  await page.locator(".leaving").waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
});

test("a ban, and it is meant even if the page is left", async (t) => {
  const { page, asked } = await visit(t, owned(evening(), { "POST /parties/p1/bans": { status: "banned" }, "DELETE /parties/p1/bans": { status: "unbanned" } }));
  await press(page, "Remove: Carol");
  await page.getByLabel("Ban: don't let").check();
  await page.getByLabel("Give the party a new id").check();
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.locator("dialog").getByRole("button", { name: "Remove" }).click();
  await page.locator(".leaving").waitFor();
  await page.goto("about:blank");
  // What is sent by a page that is gone, it is answered here or by the daemon, as the browser likes.
  const isSent = () => done(asked, "POST /parties/p1/bans").length > 0 || daemon.log().includes("refused /parties/{party_id}/bans");
  for (let tries = 0; tries < 100 && !isSent(); tries++) await page.waitForTimeout(100);
  assert.ok(isSent(), daemon.log());
  await page.goto(`${daemon.url}/ui/`);
  await press(page, "Lift: mallory");
  await page.waitForTimeout(300);
  assert.deepEqual(done(asked, "DELETE /parties/p1/bans").map(({ query }) => query), ["?peer_id=mallory"]);
});

test("settings of a party, and its end", async (t) => {
  const { page, asked } = await visit(t, owned(evening(), { "POST /parties/p1/settings": { status: "ok" }, "DELETE /parties/p1": { status: "party_deleted" } }));
  await press(page, "Settings");
  assert.equal(await page.getByLabel("Password", { exact: true }).isVisible(), false);
  await page.getByLabel("Who may join").selectOption("Who knows the password");
  await page.getByLabel("Password", { exact: true }).fill("sesame");
  assert.deepEqual(await faultsEverywhere(page), []);
  await press(page, "Save");
  await page.getByText("Saved").waitFor();
  assert.deepEqual(done(asked, "POST /parties/p1/settings")[0].body, { name: "Friday games", access: "password", password: "sesame", ends_at: null });
  await press(page, "Settings");
  await press(page, "Delete this party");
  await page.getByText("Press again").click();
  await page.waitForTimeout(5500);
  assert.equal(done(asked, "DELETE /parties/p1").length, 1);
});

test("names are text, whatever is in them", async (t) => {
  const hostile = party("p1", HOSTILE, [member("x", HOSTILE, { drops: [{ reason: "r", text: HOSTILE, packets: 1 }] }), member("y", "Z\u0351\u0352\u0353".repeat(30))], { bans: [{ peer_id: HOSTILE, public_key: null }] });
  const said = overview([hostile], { endpoint: HOSTILE, trouble: [{ what: "x", text: HOSTILE, do: HOSTILE }], events: { last: 2 } });
  const { page } = await visit(t, owned(said, { "GET /events": { events: [{ number: 1, at: NOW, kind: "joined", name: HOSTILE, party: HOSTILE, text: HOSTILE }, { number: 2, at: NOW, kind: HOSTILE, text: HOSTILE }], last: 2 } }));
  assert.equal(await page.locator("section h2 bdi").textContent(), HOSTILE);
  assert.equal(await page.locator("li strong bdi").first().textContent(), HOSTILE);
  await page.locator("details summary").last().click();
  assert.deepEqual(await faultsEverywhere(page), []);
  await page.getByRole("button", { name: /^Remove/ }).first().click();
  assert.ok((await page.locator("dialog h2").textContent()).includes(HOSTILE));
  assert.equal(await page.locator("body img").count(), 0);
});

test("a daemon that is gone is said to be gone, and is back when it is back", async (t) => {
  let isThere = true;
  const { page } = await visit(t, owned(evening(), { "GET /overview": () => (isThere ? evening() : null), "POST /parties/p1/invites": () => null }));
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  isThere = false;
  await page.getByText("The daemon doesn't answer. What is shown").waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
  await press(page, "Invite");
  await press(page, "Make the invite");
  await page.getByText("Nothing was changed").waitFor();
  await page.keyboard.press("Escape");
  isThere = true;
  await page.getByText("The daemon doesn't answer. What is shown").waitFor({ state: "detached" });
});

test("a session that has ended leads back to the start", async (t) => {
  let isOver = false;
  const { page } = await visit(t, owned(evening(), { "GET /overview": () => (isOver ? [401, { detail: "over" }] : evening()) }));
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  isOver = true;
  await page.getByText("This link or session has ended").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("a refusal is shown where it was caused", async (t) => {
  const { page } = await visit(t, owned(evening(), { "POST /parties/p1/devices": [422, { detail: [{ type: "x", loc: ["body", "name"], msg: "too long" }] }] }));
  await press(page, "Add a device");
  await page.getByLabel("Whose device is it?").fill("Zoë");
  await page.keyboard.press("Enter");
  await page.getByText("name: too long").waitFor();
});

test("refusals are in the reader's language", async (t) => {
  let detail = "This server is full: it holds at most 9 parties; try again later";
  const { page } = await visit(t, owned(evening(), { "POST /parties/p1/devices": () => [409, { detail }] }));
  await press(page, "Deutsch");
  await press(page, "Gerät hinzufügen");
  await page.getByLabel("Wessen Gerät ist es?").fill("Zoë");
  for (const [said, german] of [
    [detail, "Dieser Server ist voll."],
    ["Too many peers: at most 64; remove one first", "Entferne zuerst etwas."],
    ["A member of this party has this public key already; make a new key pair", "hat diesen Schlüssel schon"],
    ["storage full", "Schaffe erst Platz"],
    ["Something new", "Something new"],
  ]) {
    detail = said;
    await page.getByRole("dialog").getByRole("button", { name: "Gerät hinzufügen" }).click();
    await page.getByRole("alert").getByText(german).waitFor();
  }
});

const BACKUP = '{"secret":"Keep it"}\n{"rows":0}\n';
const LISTENERS = "whoever listens on this network can read the file";

test("a backup is downloaded by who has just come, after a word on what is in it", async (t) => {
  const routes = owned(evening(), { "GET /backup": { a: 1 } });
  const { page, asked } = await visit(t, routes);
  await press(page, "Backup");
  await page.getByText("as secret as a password").waitFor();
  assert.equal(await page.getByText(LISTENERS).count(), 0, "nobody listens on this machine");
  await page.getByText("The same by command").click();
  await page.getByText("lanrage restore lanrage.backup").waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
  assert.equal(done(asked, "GET /backup").length, 0);
  const file = await saved(page, page.getByRole("button", { name: "Download a backup" }));
  assert.match(file.name, /^lanrage-\d{4}-\d\d-\d\d\.backup$/);
  assert.deepEqual(JSON.parse(file.text), { a: 1 });
  await page.getByText("Keep the file like a password").waitFor();
  assert.equal(done(asked, "GET /backup")[0].headers.authorization, `Bearer ${"s".repeat(43)}`);
});

test("where others can listen, the page says so before there is anything to hear", async (t) => {
  const open = await startDaemon({ ALLOWED_HOSTS: "router.example" });
  const elsewhere = await launch("--host-resolver-rules=MAP router.example 127.0.0.1");
  t.after(async () => {
    await elsewhere.close();
    await open.stop();
  });
  const page = await (await elsewhere.newContext()).newPage();
  const asked = await played(page, owned(evening()));
  await page.goto(`http://router.example:${open.port}/ui/#setup-token`);
  await press(page, "Backup");
  await page.getByText(LISTENERS).waitFor();
  assert.equal(done(asked, "GET /backup").length, 0);
});

test("a page that was opened long ago gives out no backup and takes none, and says what to do", async (t) => {
  const { page, asked } = await visit(t, owned(evening(), { "GET /backup": [403, { detail: "This page was opened more than ten minutes ago: open it anew with `lanrage ui`" }] }));
  await press(page, "Backup");
  await press(page, "Download a backup");
  await page.getByRole("alert").getByText("open it anew with `lanrage ui`").waitFor();
  await page.evaluate(() => {
    const [token, opened] = sessionStorage.getItem("lanrage-session").split(" ");
    sessionStorage.setItem("lanrage-session", `${token} ${opened - 600000}`);
  });
  await page.reload();
  await press(page, "Backup");
  await page.getByText("opened more than ten minutes ago: open it anew.").waitFor();
  await page.getByText("lanrage ui").waitFor();
  assert.equal(await page.getByRole("button", { name: "Download a backup" }).count(), 0);
  assert.equal(await page.locator("input[type=file]").count(), 0);
  assert.deepEqual(await faultsEverywhere(page), []);
  assert.equal(done(asked, "GET /backup").length, 1);
  await press(page, "Close");
});

test("a backup is gone back to once it is said what that replaces; what is none is refused in words", async (t) => {
  let answer = [400, { detail: "This backup can't be used: line 1 is not part of a dump" }];
  const { page, asked } = await visit(t, owned(evening(), { "POST /restore": () => answer }));
  await press(page, "Deutsch");
  await press(page, "Sicherung");
  await page.locator("input[type=file]").setInputFiles({ name: "lanrage.backup", mimeType: "", buffer: Buffer.from(BACKUP) });
  await press(page, "Dorthin zurückkehren");
  assert.equal(done(asked, "POST /restore").length, 0, "nobody has said that it may be replaced");
  await page.getByLabel("Alle Partys und Spieler ersetzen, die jetzt hier sind").check();
  await press(page, "Dorthin zurückkehren");
  await page.getByRole("alert").getByText("Nichts wurde geändert").waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
  answer = { status: "restarting", rows: 3 };
  await press(page, "Dorthin zurückkehren");
  await page.getByText("lanrage startet mit der Sicherung neu. Melde dich wieder an.").waitFor();
  assert.deepEqual(done(asked, "POST /restore").map(({ body }) => body), [BACKUP, BACKUP]);
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("the focus stays where it is while the page is drawn anew", async (t) => {
  let turn = 0;
  const { page } = await visit(t, owned(() => {
    const known = evening();
    const { members } = known.parties[0];
    members[1].rtt_ms = ++turn;
    if (turn % 2) members.reverse();
    return known;
  }));
  await page.getByRole("button", { name: "Remove: Bob's phone" }).focus();
  await page.getByText("3 ms", { exact: true }).waitFor({ timeout: 12000 });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Remove: Bob's phone");
});

test("by keyboard alone", async (t) => {
  const { page, asked } = await visit(t, owned(evening(), { "POST /parties/p1/invites": { invite_id: "i", token: "t", url: "http://x/join#t", uses: 1, expires_at: 1 } }));
  await page.getByRole("heading", { name: "Friday games" }).waitFor();
  const go = async (name) => {
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      if ((await page.evaluate(() => document.activeElement.textContent)) === name) return;
    }
    assert.fail(`no way to ${name}`);
  };
  await go("Invite");
  await page.keyboard.press("Enter");
  await go("Make the invite");
  await page.keyboard.press("Enter");
  await page.getByLabel("Link").waitFor();
  assert.equal(done(asked, "POST /parties/p1/invites").length, 1);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Invite");
});

test("German from end to end", async (t) => {
  const { page } = await visit(t, owned(evening()), { locale: "de-DE" });
  await page.getByText("Aus dem Internet erreicht").waitFor();
  assert.deepEqual(await faultsEverywhere(page), []);
  const shown = await page.locator("body").innerText();
  assert.doesNotMatch(shown, /\b(Invite|Remove|Settings|Events|left|disk|recipient|neither)\b/);
  await press(page, "English");
  await page.getByText("Reached from the internet").waitFor();
});
