// The owner's session: what is known, how something is asked for, and what is said in passing.
import { Failure, ask, send } from "./ask.js";
import { h } from "./dom.js";
import { REFUSED, WORDS } from "./owner_words.js";
import { keep, language, recall, speaker } from "./words.js";

const SESSION = "lanrage-session";
const UNDO = 5000;
const NOTE = 6000;
const FRESH = 600000;

export const say = speaker(WORDS);

/** `overview` is the last answer, `at` when it came by the clock of this browser; `leaving` who is about to go. */
const [token, opened] = recall(sessionStorage, SESSION)?.split(" ") ?? [];
export const state = {
  token,
  opened,
  overview: null,
  tag: null,
  at: 0,
  isAbsent: false,
  problem: null,
  events: [],
  traffic: new Map(),
  leaving: new Map(),
  redraw: () => {},
  refresh: () => {},
};

/** Begins or ends a session. */
export function sessionIs(token) {
  Object.assign(state, { token, opened: Date.now(), overview: null, tag: null, events: [], isAbsent: false });
  state.traffic.clear();
  keep(sessionStorage, SESSION, token && `${token} ${state.opened}`);
}

/** Whether it began just now, so that the daemon gives out and takes secrets. */
export const isFresh = () => Date.now() - state.opened < FRESH;

/** The time at the daemon's, in seconds. */
export const now = () => (state.overview?.now ?? 0) + (Date.now() - state.at) / 1000;

/** Asks as the owner. What is asked for as the page is left is asked for all the same. */
export const api = (method, path, body) => guard(ask(method, path, { body, token: state.token, keepalive: method !== "GET" }));

/** The same, for what is no JSON. */
export const get = (path, known) => guard(send("GET", path, { token: state.token, known }));

/** All that there is, as a file. */
export async function download() {
  const answer = await guard(send("GET", "/backup", { token: state.token, isSlow: true }));
  return answer.blob().catch(() => {
    throw new Failure(0, "");
  });
}

/** Such a file, which takes the place of all that there is. */
export const upload = (file) => guard(send("POST", "/restore", { token: state.token, file, isSlow: true }));

async function guard(answer) {
  try {
    return await answer;
  } catch (failure) {
    if (failure.status === 401) {
      sessionIs(null);
      state.problem = say("session");
      state.redraw();
    }
    throw failure;
  }
}

/** What went wrong, in words. */
export function reason(failure) {
  if (!(failure instanceof Failure)) throw failure;
  const known = language && REFUSED.find(([begin]) => failure.message.startsWith(begin));
  return known ? known[1] : failure.message || say("absentNow");
}

/** Says something in passing. A button goes with it if there is something to undo. */
export function note(text, undo) {
  const element = h("div", { class: "note" }, h("span", null, text), undo && h("button", { class: "small", onclick: undo }, say("undo")));
  document.getElementById("notes").append(element);
  element.querySelector("button")?.focus();
  if (!undo) setTimeout(() => element.remove(), NOTE);
  return element;
}

/** Does what can't be undone a little later, so that it can be; at once if the page is left. */
export function soon(id, text, work) {
  const finish = async () => {
    stop();
    try {
      await work();
    } catch (failure) {
      note(reason(failure));
    }
    state.leaving.delete(id);
    state.refresh();
  };
  const stop = () => {
    clearTimeout(timer);
    removeEventListener("pagehide", finish);
    element.remove();
  };
  const undo = () => {
    stop();
    state.leaving.delete(id);
    note(say("undone"));
    state.redraw();
  };
  const element = note(text, undo);
  const timer = setTimeout(finish, UNDO);
  addEventListener("pagehide", finish);
  state.leaving.set(id, true);
  state.redraw();
}
