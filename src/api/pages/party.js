// What there is to see of a party.
import { addDevice, invite, remove, revoke, settings, unban } from "./dialogs.js";
import { h, svg } from "./dom.js";
import { GERMAN } from "./owner_words.js";
import { note, now, reason, say, state } from "./session.js";
import { away, bytes, language } from "./words.js";

const POINTS = 40;
const [WIDTH, HEIGHT] = [96, 24];

/** Notes what every member has sent and received by now. */
export function measure(overview, at) {
  const seen = new Set();
  for (const { members } of overview.parties) {
    for (const { peer_id: peer, received, sent } of members) {
      seen.add(peer);
      const trace = state.traffic.get(peer) ?? { points: [] };
      const total = received + sent;
      // After a restart it counts from nothing.
      if (at > trace.at) trace.points.push(Math.max(0, total - trace.total) / (at - trace.at));
      trace.points.splice(0, trace.points.length - POINTS);
      Object.assign(trace, { at, total });
      state.traffic.set(peer, trace);
    }
  }
  for (const peer of state.traffic.keys()) if (!seen.has(peer)) state.traffic.delete(peer);
}

function sparkline({ peer_id: peer, name }) {
  const points = state.traffic.get(peer)?.points ?? [];
  const rate = bytes(points.at(-1) ?? 0, "second");
  const most = Math.max(1000, ...points);
  const line = points.map((point, at) => `${WIDTH - ((points.length - 1 - at) * WIDTH) / (POINTS - 1)},${HEIGHT - 1 - (point / most) * (HEIGHT - 2)}`);
  return h("span", { class: "spark" },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": say("traffic", { name, rate }) },
      svg("polyline", { points: line.join(" "), fill: "none", stroke: "currentColor", "stroke-width": "1.5" })),
    h("span", { "aria-hidden": "true" }, rate));
}

const press = (work) => async ({ target }) => {
  if (target.getAttribute("aria-disabled")) return;
  target.setAttribute("aria-disabled", "true");
  try {
    await work();
  } catch (failure) {
    note(reason(failure));
  }
  target.removeAttribute("aria-disabled");
};

/** What the daemon says, in the reader's language where it is known here. */
export const inWords = (key, text) => (language && GERMAN[key]) || text;

/** Packets that were dropped, and why. */
export const dropLine = ({ reason: why, text, packets }) =>
  h("div", { class: "quiet", key: why }, say("drops", { text: inWords(`drop_${why}`, text), packets }));

function memberRow(party, member) {
  const { peer_id: peer, name, kind, is_online: isOn, path, rtt_ms: rtt, virtual_ip: address, received, sent } = member;
  const isLeaving = state.leaving.has(peer);
  return h("li", { key: peer, class: isLeaving ? "member leaving" : "member" },
    h("div", { class: "grow" },
      h("strong", null, h("bdi", null, name)), " ",
      h("span", { class: isOn ? "word on" : "word" }, say(isOn ? "online" : "offline")),
      h("div", { class: "quiet facts" },
        h("code", null, address), h("span", null, say(`kind_${kind}`)),
        isOn && path && h("span", null, say(`path_${path}`)), isOn && rtt != null && h("span", null, `${rtt} ms`),
        !isOn && member.last_handshake && h("span", null, away(member.last_handshake, now())),
        h("span", { title: say("since", { sent: bytes(sent), received: bytes(received) }) }, `↑ ${bytes(sent)} ↓ ${bytes(received)}`)),
      member.drops.map(dropLine)),
    sparkline(member),
    h("button", { class: "small", "aria-label": `${say("remove")}: ${name}`, "aria-disabled": isLeaving && "true", onclick: () => isLeaving || remove(party, member) }, say("remove")));
}

function inviteRow(party, one) {
  const { invite_id: id, kind, uses, uses_left: left, expires_at: ends } = one;
  const text = say("inviteLeft", { left, uses, when: away(ends, now()) });
  return h("li", { key: id, class: "row" }, h("span", { class: "grow" }, say(kind === "code" ? "code" : "inviteLink"), ": ", text),
    h("button", { class: "small", "aria-label": `${say("revoke")}: ${text}`, onclick: press(() => revoke(party, one)) }, say("revoke")));
}

function banRow(party, ban) {
  const who = ban.peer_id ?? ban.public_key;
  return h("li", { key: who, class: "row" }, h("code", { class: "grow" }, who),
    h("button", { class: "small", "aria-label": `${say("unban")}: ${who}`, onclick: press(() => unban(party, ban)) }, say("unban")));
}

/** The card of a party. */
export function partyCard(party) {
  const { members, invites, bans, party_id: id } = party;
  const online = members.filter((one) => one.is_online).length;
  const open = invites.filter((one) => one.uses_left > 0 && one.expires_at > now());
  return h("section", { class: "card", key: id, "aria-label": party.name },
    h("div", { class: "row" },
      h("div", { class: "grow" },
        h("h2", null, h("bdi", null, party.name)),
        h("p", { class: "quiet" }, [say("onlineOf", { online, all: members.length }), say(`access_${party.access}`), party.ends_at && say("endsAt", { when: away(party.ends_at, now()) })].filter(Boolean).join(" · "))),
      h("button", { class: "main", onclick: () => invite(party) }, say("invite")),
      h("button", { onclick: () => addDevice(party) }, say("addDevice")),
      h("button", { onclick: () => settings(party) }, say("settings"))),
    members.length ? h("ul", { class: "plain" }, members.map((member) => memberRow(party, member))) : h("p", null, say("nobody")),
    open.length > 0 && [h("h3", null, say("invites")), h("ul", { class: "plain" }, open.map((one) => inviteRow(party, one)))],
    bans.length > 0 && [h("h3", null, say("banned")), h("ul", { class: "plain" }, bans.map((ban) => banRow(party, ban)))]);
}
