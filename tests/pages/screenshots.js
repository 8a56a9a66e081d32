// Pictures of every page, for people who want to look: in `screenshots/`, on a phone and a PC, light and dark.
import { mkdirSync } from "node:fs";
import { COLOURS, WIDTHS, launch, open } from "./browser.js";
import { startDaemon } from "./daemon.js";
import { evening, invited, overview, owned, party, played } from "./world.js";

const folder = new URL("screenshots/", import.meta.url).pathname;
mkdirSync(folder, { recursive: true });
const daemon = await startDaemon();
const browser = await launch();
const TOKEN = "t".repeat(22);

/** Takes a picture of a page after some steps. */
async function take(name, path, routes, steps, locale = "en-GB") {
  for (const width of WIDTHS) {
    for (const colorScheme of COLOURS) {
      const options = { locale, colorScheme, viewport: { width, height: width < 500 ? 740 : 900 } };
      const { context, page } = await open(browser, options);
      await played(page, routes);
      await page.goto(daemon.url + path);
      await steps?.(page);
      await page.waitForTimeout(150);
      const hasDialog = await page.locator("dialog").count();
      await page.screenshot({ path: `${folder}${name}-${width}-${colorScheme}.png`, fullPage: !hasDialog });
      await context.close();
    }
  }
  console.log(name);
}

const button = (page, name) => page.getByRole("button", { name, exact: true }).first();
const main = (page) => page.locator("main section").first().waitFor();
const made = async (page) => {
  await page.getByLabel("Your nickname").fill("Zoë");
  await button(page, "Make my file").click();
  await page.locator(".steps").waitFor();
};
const isOn = { peer_id: "d", name: "Zoë", party: "Friday games", virtual_ip: "10.66.0.6", last_handshake: Date.now() / 1000, is_online: true, members: [{ name: "Alice", virtual_ip: "10.66.0.2", is_online: true }, { name: "Bob", virtual_ip: "10.66.0.3", is_online: false }] };

/** An evening on which more and more is sent. */
function playing() {
  let turn = 0;
  return () => {
    const known = evening();
    turn++;
    known.parties[0].members.forEach((member, at) => (member.received += at * turn * 40000 + (turn % 3) * 90000 * at));
    return known;
  };
}

try {
  await take("owner-sign-in", "/ui/", {}, null);
  await take("owner-address", "/ui/#setup", owned(overview([], { endpoint: null })), main);
  await take("owner-first-party", "/ui/#setup", owned(overview([])), main);
  await take("owner-empty", "/ui/#setup", owned(overview([party("p", "Friday games")], { reached_from_outside: null })), main);
  await take("owner-live", "/ui/#setup", owned(playing()), async (page) => {
    await main(page);
    await page.waitForTimeout(20000);
    await page.locator("details summary").last().click();
  });
  await take("owner-live-german", "/ui/#setup", owned(evening()), main, "de-DE");
  await take("owner-device", "/ui/#setup", owned(evening()), async (page) => button(page, "Add a device").click());
  await take("owner-device-ready", "/ui/#setup", owned(evening(), { "POST /parties/p1/devices": { ...invited()["POST /invites/redeem"], name: "Zoë's phone" } }), async (page) => {
    await button(page, "Add a device").click();
    await page.getByLabel("Whose device is it?").fill("Zoë's phone");
    await page.locator("dialog button.main").click();
    await page.locator("dialog svg").waitFor();
  });
  await take("owner-invite", "/ui/#setup", owned(evening()), async (page) => button(page, "Invite").click());
  await take("owner-invite-ready", "/ui/#setup", owned(evening(), { "POST /parties/p1/invites": { invite_id: "i", token: TOKEN, url: `http://192.168.1.1:8667/join#${TOKEN}`, uses: 1, expires_at: 1 } }), async (page) => {
    await button(page, "Invite").click();
    await page.locator("dialog button.main").click();
    await page.locator("dialog svg").waitFor();
  });
  await take("owner-settings", "/ui/#setup", owned(evening()), async (page) => button(page, "Settings").click());
  await take("owner-remove", "/ui/#setup", owned(evening()), async (page) => {
    await button(page, "Remove: Bob's phone").click();
    await page.getByLabel("Ban: don't let").check();
  });
  await take("owner-undo", "/ui/#setup", owned(evening()), async (page) => {
    await button(page, "Remove: Bob's phone").click();
    await page.locator("dialog button.main").click();
  });
  await take("guest-code", "/join", {}, null);
  await take("guest-invited", `/join#${TOKEN}`, invited({ needs_password: true }), (page) => page.getByLabel("Your nickname").waitFor());
  await take("guest-file", `/join#${TOKEN}`, invited(), made);
  await take("guest-connected", `/join#${TOKEN}`, invited({}, { "GET /devices/self": isOn }), async (page) => {
    await made(page);
    await page.locator(".state.on").waitFor();
  });
  await take("guest-used", `/join#${TOKEN}`, { "POST /invites/preview": [409, { detail: "used up" }] }, (page) => page.getByRole("alert").waitFor());
} finally {
  await browser.close();
  await daemon.stop();
}
