// The page of who is invited: what the invite is for, a nickname, and the file for the WireGuard app.
import { Failure, ask } from "./ask.js";
import { fileText, picture, save, tunnelName } from "./device.js";
import { h, show } from "./dom.js";
import { WORDS } from "./guest_words.js";
import { away, changeLanguage, keep, recall, speaker } from "./words.js";
import { newKeys } from "./x25519.js";

const INVITE = "lanrage-invite";
const DEVICE = "lanrage-device";
const POLL = 3000;
// A WireGuard peer that talks shakes hands every two minutes.
const ALIVE = 140;

const say = speaker(WORDS);
const agent = navigator.userAgent;
const isPhone = /Android|iPhone|iPad|Mobile/.test(agent) || (/Macintosh/.test(agent) && navigator.maxTouchPoints > 1);
const isWindows = /Windows NT/.test(agent);
const main = document.querySelector("main");

// `step` is code, invited or made. The private key is in `file` alone, which lasts as long as the page.
let state;

function begin() {
  const token = location.hash.slice(1);
  if (token) {
    // What is in the address would stay in the history.
    history.replaceState(null, "", location.pathname);
    keep(sessionStorage, INVITE, token);
    keep(sessionStorage, DEVICE, null);
  }
  const device = recall(sessionStorage, DEVICE);
  const invite = recall(sessionStorage, INVITE);
  state = { step: "code", values: {} };
  if (device) {
    state.step = "made";
    state.device = device;
  } else if (invite) {
    look({ token: invite });
    return;
  }
  render();
}

/** How an invite is named in a request: a code is short. */
const named = (text) => (text.length > 20 ? { token: text } : { code: text.replace(/[\s-]/g, "").toUpperCase() });

async function attempt(work) {
  if (state.busy) return;
  const mine = state;
  state.busy = true;
  state.problem = null;
  render();
  try {
    await work();
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    mine.problem = problem(failure);
    mine.isOver = [404, 410].includes(failure.status) || isUsedUp(failure.message);
    if (mine.isOver) keep(sessionStorage, INVITE, null);
  }
  mine.busy = false;
  if (state === mine) render();
}

// The other ones of its status end when somebody leaves.
const isUsedUp = (message) => message.startsWith("This invite is used up");

function problem({ status, message }) {
  const key = { 0: "absent", 404: "unknown", 409: isUsedUp(message) ? "used" : "full", 410: "expired", 429: "many", 503: "busy" }[status];
  if (status === 403 && state.preview?.needs_password) return say("wrongPassword");
  return key ? say(key) : message;
}

const look = (invite) =>
  attempt(async () => {
    state.invite = invite;
    state.preview = await ask("POST", "/invites/preview", { body: invite });
    state.step = "invited";
    keep(sessionStorage, INVITE, invite.token ?? invite.code);
    state.focus = true;
  });

const make = () =>
  attempt(async () => {
    // A second try after an answer that was lost has to name the same key: then it is free.
    state.keys ??= newKeys();
    const { name, password } = state.values;
    const body = { ...state.invite, name: name.trim(), public_key: state.keys.publicKey };
    if (state.preview.needs_password) body.password = password;
    const answer = await ask("POST", "/invites/redeem", { body });
    state.file = fileText(answer, state.keys.privateKey);
    state.fileName = `${tunnelName(answer.party)}.conf`;
    state.device = answer.device_token;
    state.step = "made";
    state.focus = true;
    keep(sessionStorage, DEVICE, answer.device_token);
    keep(sessionStorage, INVITE, null);
  });

/** Asks how the device is doing, as long as somebody looks. */
async function poll() {
  if (state.step === "made" && !document.hidden) {
    const mine = state;
    try {
      mine.self = await ask("GET", "/devices/self", { token: mine.device });
      mine.isAbsent = false;
    } catch (failure) {
      if (failure.status === 401 || failure.status === 404) {
        keep(sessionStorage, DEVICE, null);
        if (!mine.file) begin();
      }
      mine.isAbsent = failure.status === 0;
    }
    if (state === mine) render();
  }
  setTimeout(poll, POLL);
}

const now = () => Date.now() / 1000;

function field(name, label, hint, attributes) {
  const about = hint && h("small", { id: `${name}-hint` }, hint);
  const input = h("input", {
    id: name,
    name,
    required: true,
    "aria-describedby": hint && `${name}-hint`,
    oninput: ({ target }) => (state.values[name] = target.value),
    ...attributes,
  });
  return h("p", { class: "field" }, h("label", { for: name }, label), input, about);
}

const trouble = () => h("p", { class: "problem", role: "alert" }, state.problem ?? "");

function form(submit, word, ...fields) {
  const onsubmit = (event) => {
    event.preventDefault();
    for (const input of event.target.querySelectorAll("input")) state.values[input.name] = input.value;
    submit();
  };
  return h("form", { onsubmit, key: state.step }, fields, trouble(),
    h("button", { class: "main", "aria-disabled": state.busy && "true" }, state.busy ? say("slow") : word));
}

function code() {
  if (state.invite && (state.busy || state.problem)) {
    // A link was opened: there is nothing to type.
    const again = () => look(state.invite);
    const typed = state.invite.code;
    if (!typed) {
      return [h("h1", { tabindex: "-1" }, say("title")), state.busy ? h("p", null, say("slow")) : trouble(),
        !state.busy && !state.isOver && h("p", null, h("button", { class: "main", onclick: again }, say("again")))];
    }
  }
  const input = field("code", say("code"), say("codeHint"),
    { autocomplete: "off", autocapitalize: "characters", spellcheck: "false", maxlength: "64", class: "code" });
  return [h("h1", { tabindex: "-1" }, say("codeTitle")), form(() => look(named(state.values.code.trim())), say("continue"), input)];
}

function invited() {
  const { party, host, players, online, needs_password: needsPassword, expires_at: ends } = state.preview;
  return [
    h("p", { class: "lead" }, host ? say("hosted", { host }) : say("invited")),
    h("h1", { tabindex: "-1" }, h("bdi", null, party)),
    h("p", { class: "quiet" }, say("players", { players, online }), " · ", say("until", { when: away(ends, now()) })),
    form(make, say("make"),
      field("name", say("name"), say("nameHint"), { maxlength: "100", autocomplete: "nickname" }),
      needsPassword && field("password", say("password"), null, { type: "password", autocomplete: "off" })),
  ];
}

function status() {
  const { self, isAbsent } = state;
  const isOn = self?.is_online || (self?.last_handshake && now() - self.last_handshake < ALIVE);
  return h("p", { class: isOn ? "state on" : "state", role: "status" },
    isOn ? say("connected", { address: self.virtual_ip }) : say(isAbsent ? "absent" : "waiting"));
}

function members() {
  const others = state.self?.members ?? [];
  return others.length > 0 && h("section", null, h("h2", null, say("members")),
    h("ul", { class: "plain" }, others.map(({ name, virtual_ip: address, is_online: isOn }) =>
      h("li", null, h("bdi", null, name), " ", h("code", null, address), " ",
        h("span", { class: isOn ? "word on" : "word" }, say(isOn ? "online" : "offline"))))));
}

function made() {
  const { file, fileName } = state;
  if (!file) return [h("h1", { tabindex: "-1" }, state.self?.party ?? say("title")), status(), h("p", { class: "quiet" }, say("fileAgain")), members()];
  const store = () => {
    save(fileName, file);
    state.isSaved = true;
  };
  state.picture ??= picture(file, say("qr"));
  const code = h("figure", { class: "code" }, state.picture.cloneNode(true), h("figcaption", null, say(isPhone ? "otherPhone" : "phone")));
  const button = h("button", { class: "main", onclick: store }, say("file"));
  return [
    h("h1", { tabindex: "-1" }, say("ready")),
    h("ol", { class: "steps" },
      h("li", null, h("a", { href: "https://www.wireguard.com/install/", target: "_blank", rel: "noreferrer" }, say("app"))),
      h("li", null, button, " ", h("small", null, say("secret"))),
      h("li", null, say("importFile", { file: fileName }))),
    status(),
    isPhone ? h("details", null, h("summary", null, "QR"), code) : code,
    members(),
    isWindows && h("p", { class: "quiet" }, say("windows")),
  ];
}

function render() {
  document.title = say("title");
  show(main, { code, invited, made }[state.step]());
  show(document.querySelector("footer"), h("button", { class: "link", onclick: () => (changeLanguage(), (state.picture = null), render()) }, say("language")));
  if (state.focus) {
    state.focus = false;
    main.querySelector("h1").focus();
  }
}

addEventListener("hashchange", () => location.hash && begin());
addEventListener("beforeunload", (event) => {
  if (state.file && !state.isSaved && !state.self?.last_handshake) event.preventDefault();
});
begin();
poll();
