// What an owner does with a party: devices, invites, members, settings.
import { fileText, picture, save, tunnelName } from "./device.js";
import { h } from "./dom.js";
import { check, choice, closing, dialog, field, form } from "./forms.js";
import { api, note, say, soon, state } from "./session.js";
import { moment } from "./words.js";
import { newKeys } from "./x25519.js";

const path = (party, ...parts) => ["/parties", party.party_id, ...parts].map((part, at) => (at ? encodeURIComponent(part) : part)).join("/");

const member = (peer) => state.overview?.parties.flatMap((party) => party.members).find((one) => one.peer_id === peer);

/** A device for who has a WireGuard app and nothing else. */
export function addDevice(party) {
  dialog(say("addDevice"), (change, close) => {
    // Asked once more after an answer that was lost, the same key gets the same device.
    const keys = newKeys();
    const submit = async ({ name, key }) => {
      const own = key.trim();
      const answer = await api("POST", path(party, "devices"), { name: name.trim(), public_key: own || keys.publicKey });
      state.refresh();
      made(answer, own ? null : keys.privateKey, change, close);
    };
    const key = h("details", null, h("summary", null, say("keyOwn")),
      field("key", say("key"), say("keyHint"), { required: false, maxlength: "44", pattern: "[A-Za-z0-9+\\/]{42}[AEIMQUYcgkosw048]=" }));
    const name = field("name", say("deviceName"), say("addDeviceHint"), { maxlength: "100" });
    return form(say("addDevice"), submit, [name, key], closing(close));
  });
  const made = (answer, privateKey, change, close) => {
    const text = fileText(answer, privateKey);
    const status = h("p", { class: "state", role: "status" }, say("deviceWaiting"));
    const store = () => save(`${tunnelName(answer.name)}.conf`, text);
    const code = privateKey && picture(text, say("qrDevice"));
    change(say("deviceReady", { name: answer.name }),
      code && h("figure", { class: "code" }, code),
      h("p", null, say("deviceHint")),
      status,
      h("p", { class: "row" }, h("button", { class: "main", onclick: store }, say("file")), closing(close, say("close"))));
    const place = document.querySelector("dialog .state");
    const watch = setInterval(() => {
      if (!place.isConnected) return clearInterval(watch);
      if (!member(answer.peer_id)?.is_online) return;
      clearInterval(watch);
      place.classList.add("on");
      place.textContent = say("deviceConnected");
    }, 500);
  };
}

/** An invite: for one friend and a day, unless another is chosen. */
export function invite(party) {
  dialog(say("invite"), (change, close) => {
    const submit = async ({ uses, lasts, code }) => {
      const body = { uses: Number(uses), expires_in: Number(lasts), code: Boolean(code) };
      if (body.code) body.expires_in = Math.min(body.expires_in, 86400);
      const answer = await api("POST", path(party, "invites"), body);
      state.refresh();
      made(answer, change, close);
    };
    const lasts = choice("lasts", say("lasts"), [[3600, say("hour")], [86400, say("day")], [604800, say("week")]], 86400);
    const uses = field("uses", say("inviteUses"), null, { type: "number", min: "1", max: "64", value: "1", inputmode: "numeric" });
    return form(say("inviteMake"), submit, [uses, lasts, check("code", say("inviteCode"))], closing(close));
  });
  const made = (answer, change, close) => {
    const page = state.overview?.http ?? location.origin;
    const link = answer.url ?? `${page}/join#${answer.token ?? ""}`;
    const text = answer.code ?? link;
    const copy = async (event) => {
      const input = event.target.closest("dialog").querySelector("input");
      input.select();
      // By plain http there is no clipboard, but this.
      const isCopied = await (navigator.clipboard?.writeText(text).then(() => true, () => false) ?? document.execCommand("copy"));
      event.target.textContent = say(isCopied ? "copied" : "selected");
    };
    const share = () => navigator.share({ title: party.name, text: say("shareText", { party: party.name }), url: link }).catch(() => {});
    const code = picture(link, say("qrInvite"));
    change(say("inviteReady"),
      field("link", say(answer.code ? "code" : "inviteLink"), answer.code ? say("codeHint", { url: `${page}/join` }) : say("inviteHint"), { readonly: true, value: text, required: false, class: "link" }),
      h("p", { class: "row" }, h("button", { class: "main", onclick: copy }, say("copy")),
        navigator.share && h("button", { onclick: share }, say("share")), closing(close, say("close"))),
      code && h("figure", { class: "code" }, code));
  };
}

/** Takes a member out, for good if its owner likes. */
export function remove(party, who) {
  const title = say("removeTitle", { name: who.name });
  dialog(title, (_, close) => {
    const came = who.invite_id && party.invites.some((one) => one.invite_id === who.invite_id && one.uses_left > 0);
    const submit = async ({ ban, revoke, id }) => {
      close();
      soon(who.peer_id, say("removeDone", { name: who.name }), async () => {
        if (ban) {
          await api("POST", path(party, "bans"), { peer_id: who.peer_id, revoke_invite: Boolean(revoke), new_id: Boolean(id) });
        } else {
          await api("DELETE", path(party, "peers", who.peer_id) + (revoke ? "?revoke_invite=1" : ""));
        }
      });
    };
    const id = h("div", { hidden: true }, check("id", say("newId")));
    const ban = check("ban", say("ban"), { onchange: ({ target }) => (target.closest("form").querySelector("div").hidden = !target.checked) });
    return form(say("remove"), submit, [came && check("revoke", say("revokeToo")), ban, id], closing(close));
  });
}

/** Takes an invite back. */
export async function revoke(party, { invite_id: id }) {
  await api("DELETE", path(party, "invites", id));
  note(say("revokeDone"));
  state.refresh();
}

/** Lets a banned one in again. */
export async function unban(party, { peer_id: peer, public_key: key }) {
  const query = new URLSearchParams(peer ? { peer_id: peer } : { public_key: key });
  await api("DELETE", `${path(party, "bans")}?${query}`);
  state.refresh();
}

const ACCESS = ["invite", "open", "password", "public"];
const DAY = 86400;

/** Name, access, end. */
export function settings(party) {
  dialog(say("settings"), (_, close) => {
    const submit = async ({ name, access, password, ends }) => {
      const body = { name: name.trim(), access };
      if (access === "password" && password) body.password = password;
      if (ends !== "as it is") body.ends_at = ends ? Math.floor(state.overview.now + Number(ends)) : null;
      await api("POST", path(party, "settings"), body);
      note(say("saved"));
      close();
      state.refresh();
    };
    const kinds = choice("access", say("access"), ACCESS.map((kind) => [kind, say(`access_${kind}`)]), party.access);
    const password = field("password", say("password"), null, { required: false, maxlength: "100" });
    const follow = () => (password.hidden = kinds.querySelector("select").value !== "password");
    kinds.querySelector("select").onchange = follow;
    follow();
    const ends = [["", say("neverEnds")], [6 * 3600, moment(state.overview.now + 6 * 3600)], [DAY, moment(state.overview.now + DAY)], [7 * DAY, moment(state.overview.now + 7 * DAY)]];
    if (party.ends_at) ends.unshift(["as it is", moment(party.ends_at)]);
    return [
      form(say("save"), submit, [
        field("name", say("partyName"), null, { value: party.name, maxlength: "100" }),
        kinds, password, choice("ends", say("ends"), ends, party.ends_at ? "as it is" : ""),
      ], closing(close)),
      h("p", null, h("button", { class: "bad", onclick: destroy }, say("deleteParty"))),
    ];
    async function destroy({ target }) {
      if (!target.dataset.sure) {
        target.dataset.sure = "yes";
        target.textContent = say("deleteSure", { party: party.name });
        return;
      }
      close();
      soon(party.party_id, say("removeDone", { name: party.name }), () => api("DELETE", path(party)));
    }
  });
}

/** A party of this machine's. */
export const createParty = (submit, ...more) =>
  form(say("create"), async ({ name }) => {
    await api("POST", "/parties", { name: name.trim(), access: "invite", permanent: true });
    await submit();
  }, [field("name", say("partyName"), say("partyHint"), { maxlength: "100" })], more);

/** Another one. */
export const newParty = () =>
  dialog(say("newParty"), (_, close) => createParty(async () => {
    close();
    state.refresh();
  }, closing(close)));
