// The owner's page: signing in, the first run, and what is going on.
import { ask } from "./ask.js";
import { createParty, newParty } from "./dialogs.js";
import { save } from "./device.js";
import { h, show } from "./dom.js";
import { check, closing, dialog, field, form, labelled } from "./forms.js";
import { WORDS } from "./owner_words.js";
import { dropLine, inWords, measure, partyCard } from "./party.js";
import { api, download, get, isFresh, note, now, reason, say, sessionIs, state, upload } from "./session.js";
import { away, changeLanguage, keep, moment, recall } from "./words.js";

const POLL = 3000;
const PORT = 51820;
const LATER = "lanrage-later";

const main = document.querySelector("main");
const isLater = () => recall(sessionStorage, LATER) === "yes";

/** Whether an address is one that friends elsewhere can't use: the words for why. */
function doubt(host) {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "");
  if (/^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./.test(name)) return "addressCgnat";
  const isPrivate = /^(10|127|0|169\.254|192\.168|172\.(1[6-9]|2\d|3[01]))\.|^(::1?|f[cd].*:.*|fe[89ab].*:.*)$|^localhost$|\.(lan|local|home|internal|localdomain|home\.arpa)$/;
  return isPrivate.test(name) || !/[.:]/.test(name) ? "addressPrivate" : null;
}

/** A host and port, the port by default; null if it is none. */
function endpoint(text) {
  const bare = text.trim();
  const parts = /^(?:\[([\da-fA-F:.]+)\]|([\da-fA-F]*:[\da-fA-F:.]*:[\da-fA-F:.]*)|([a-zA-Z\d](?:[a-zA-Z\d.-]*[a-zA-Z\d])?))(?::(\d{1,5}))?$/.exec(bare);
  if (!parts) return null;
  const [, bracketed, v6, name, port = PORT] = parts;
  const host = name ?? `[${bracketed ?? v6}]`;
  return port > 0 && port < 65536 ? { host, port: Number(port), text: `${host}:${port}` } : null;
}

function signIn() {
  const submit = async ({ token }) => enter({ admin_token: token });
  return h("section", { class: "card sign-in" },
    h("h1", null, say("signIn")),
    state.problem && h("p", { class: "problem", role: "alert" }, state.problem),
    h("p", null, say("signInHint")),
    h("p", null, h("code", { class: "command" }, "lanrage ui")),
    h("details", null, h("summary", null, say("signInOr")),
      form(say("signIn"), submit, field("token", say("adminToken"), null, { type: "password", autocomplete: "current-password" }))));
}

async function enter(secret) {
  const { token } = await ask("POST", "/ui/sessions", { body: secret });
  state.problem = null;
  sessionIs(token);
  redraw();
  await refresh();
}

function askAddress() {
  const hint = h("p", { class: "state warn", role: "status", hidden: true });
  const judge = (text) => {
    const address = endpoint(text);
    const word = !text.trim() ? null : address ? doubt(address.host) : "addressBad";
    const place = main.querySelector(".state.warn") ?? hint;
    place.hidden = !word;
    place.textContent = word ? say(word) : "";
    return address;
  };
  const given = state.overview.endpoint ?? `${location.hostname}:${PORT}`;
  const submit = async ({ address }) => {
    const known = judge(address);
    if (!known) return;
    await api("POST", "/ui/settings", { public_endpoint: known.text });
    await refresh();
  };
  const card = h("section", { class: "card", key: "address" },
    h("h1", null, say("addressTitle")),
    form(say("save"), submit, [
      field("address", say("address"), say("addressHint", { port: String(PORT) }), { value: given, spellcheck: "false", autocapitalize: "none", oninput: ({ target }) => judge(target.value) }),
      hint,
    ], h("button", { type: "button", onclick: () => (keep(sessionStorage, LATER, "yes"), redraw()) }, say("later"))));
  judge(given);
  return card;
}

function firstParty() {
  return h("section", { class: "card", key: "party" }, h("h1", null, say("partyTitle")), createParty(() => refresh()));
}

function troubles({ trouble, drops }) {
  return [
    trouble.map(({ what, text, do: todo }) => h("section", { class: "card trouble", key: what },
      h("h2", null, inWords(`trouble_${what}`, text)), h("p", null, h("strong", null, say("todo")), " ", inWords(`do_${what}`, todo)))),
    drops.length > 0 && h("div", { class: "drops" }, drops.map(dropLine)),
  ];
}

function eventLine({ number, at, kind: what, name, party, address, from, text }) {
  const kind = address === undefined ? what : address ? "way_out" : "way_lost";
  const isKnown = `event_${kind}` in WORDS && (party != null || !WORDS[`event_${kind}`][0].includes("{party}"));
  return h("li", { key: `event-${number}` }, h("time", { class: "quiet" }, moment(at)), " ",
    isKnown && (name != null || !WORDS[`event_${kind}`][0].includes("{name}")) ? say(`event_${kind}`, { name, party, address, from }) : text);
}

const command = (text) => h("p", null, h("code", { class: "command" }, text));

// The hub's key outlasts this session: whoever finds the page open must not have it.
const backup = () =>
  dialog(say("backup"), (_, close) => {
    const commands = h("details", null, h("summary", null, say("backupCommands")),
      command("lanrage backup lanrage.backup"), command("lanrage restore lanrage.backup"));
    if (!isFresh()) return [h("p", null, say("backupStale")), command("lanrage ui"), commands, h("p", { class: "row" }, closing(close, say("close")))];
    const isHeard = location.protocol === "http:" && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);
    const load = async () => {
      save(`lanrage-${new Date().toISOString().slice(0, 10)}.backup`, await download());
      note(say("backupSaved"));
    };
    const restore = async ({ file }) => {
      await upload(file);
      close();
      sessionIs(null);
      state.problem = say("restored");
      redraw();
    };
    const file = (given) => h("input", { ...given, name: "file", type: "file", required: true });
    return [
      h("p", null, say("backupSecret")),
      isHeard && h("p", { class: "state warn" }, say("backupHeard")),
      form(say("backupLoad"), load, []),
      h("h3", null, say("restoreTitle")),
      form(say("restore"), restore, [labelled(say("restoreFile"), say("restoreHint"), file), check("sure", say("restoreSure"), { required: true })], closing(close, say("close"))),
      commands,
    ];
  });

function live(overview) {
  const { reached_from_outside: reached } = overview;
  return [
    h("h1", { class: "unseen" }, "lanrage"),
    h("div", { class: "row summary" },
      h("p", { class: reached ? "state on" : "state" }, reached ? say("reached", { when: away(reached, now()) }) : say("never")),
      overview.endpoint && h("p", { class: "quiet" }, say("endpoint"), " ", h("code", null, overview.endpoint))),
    troubles(overview),
    overview.parties.map(partyCard),
    h("p", { class: "row actions" }, h("button", { onclick: newParty }, say("newParty")), h("button", { onclick: backup }, say("backup"))),
    h("details", { class: "card" }, h("summary", null, say("events")),
      h("ol", { class: "plain events", reversed: true }, [...state.events].reverse().map(eventLine))),
  ];
}

/** What is on the page, by what is known. A form that somebody fills in stays as it is. */
function redraw() {
  const { overview, token, isAbsent } = state;
  const screen = !token ? "signIn" : !overview ? "loading" : !overview.endpoint && !isLater() ? "address" : !overview.parties.length ? "party" : "live";
  const absent = isAbsent && h("p", { class: "state", role: "alert", key: "absent" }, overview ? say("absent", { when: moment(state.at / 1000) }) : say("absentNow"));
  show(document.querySelector("header"), h("p", { class: "brand grow" }, "lanrage"),
    h("button", { class: "link", onclick: () => (changeLanguage(), (main.dataset.screen = ""), redraw()) }, say("language")),
    token && h("button", { class: "link", onclick: signOut }, say("signOut")));
  show(document.querySelector("footer"), overview && h("span", null, overview.version));
  const isNew = main.dataset.screen !== screen;
  main.dataset.screen = screen;
  if (screen === "live") show(main, absent, live(overview));
  else if (screen === "loading") show(main, absent || h("p", null, say("loading")));
  else if (isNew) main.replaceChildren(...[{ signIn, address: askAddress, party: firstParty }[screen]()].filter(Boolean));
}

async function signOut() {
  await api("DELETE", "/ui/sessions").catch(() => {});
  sessionIs(null);
  redraw();
}

let timer;
let isAsking = false;

/** Asks for what is new, and again in a while, as long as somebody looks. */
async function refresh() {
  clearTimeout(timer);
  if (!state.token || document.hidden) return;
  if (!isAsking) {
    isAsking = true;
    const { token } = state;
    try {
      const answer = await get("/overview", state.tag);
      if (answer.status === 200) {
        const overview = await answer.json();
        if (token === state.token) Object.assign(state, { overview, tag: answer.headers.get("ETag"), at: Date.now() });
      }
      if (state.overview) measure(state.overview, Date.now() / 1000);
      await readEvents();
      state.isAbsent = false;
    } catch (failure) {
      if (failure.status !== 401) state.isAbsent = true;
    }
    isAsking = false;
    redraw();
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, POLL);
}

async function readEvents() {
  const last = state.events.at(-1)?.number ?? 0;
  const newest = state.overview?.events.last ?? 0;
  if (newest === last) return;
  // A daemon that began anew counts from one.
  const known = newest > last ? state.events : [];
  const { events } = await api("GET", `/events?after=${known.at(-1)?.number ?? 0}`);
  state.events = [...known, ...events].slice(-200);
}

async function begin() {
  const setup = location.hash.slice(1);
  if (setup) {
    // What is in the address would stay in the history.
    history.replaceState(null, "", location.pathname);
    redraw();
    try {
      await enter({ setup });
    } catch (failure) {
      if (!state.token) state.problem = failure.status ? say("session") : reason(failure);
      main.dataset.screen = "";
      redraw();
    }
    return;
  }
  redraw();
  refresh();
}

Object.assign(state, { redraw, refresh });
document.addEventListener("visibilitychange", refresh);
addEventListener("hashchange", () => location.hash && begin());
begin();
