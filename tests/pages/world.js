// What a daemon would say, for pages whose state is hard to bring about: the shapes of /openapi.json.

export const NOW = Math.floor(Date.now() / 1000);
export const HOSTILE = "<img src=x onerror=alert(1)>\u202e&quot;'`${7*7}";

export const KEYS = { hub: "aGVsbG8gdGhpcyBpcyBhIGh1YiBrZXkgb2YgMzIgYiE=" };

export const member = (peer_id, name, more) => ({
  peer_id, name, kind: "client", virtual_ip: "10.66.0.2", is_online: true, path: "hub", rtt_ms: 23,
  last_handshake: NOW - 20, received: 1234567, sent: 7654321, invite_id: null, drops: [], ...more,
});

export const party = (party_id, name, members = [], more) => ({
  party_id, name, host_id: null, access: "invite", permanent: true, ends_at: null, created_at: NOW - 9000,
  members, invites: [], bans: [], ...more,
});

export const overview = (parties = [], more) => ({
  version: "0.1.0", now: NOW, uptime: 3600, clock_is_set: true, endpoint: "play.example.org:51820",
  http: "http://192.168.1.1:8667", reached_from_outside: NOW - 180, trouble: [], drops: [], parties,
  events: { last: 0 }, ...more,
});

/** An evening with everything on it. */
export function evening() {
  const friends = party("p1", "Friday games", [
    member("alice", "Alice", { path: "direct", rtt_ms: 9 }),
    member("bob", "Bob's phone", { kind: "device", virtual_ip: "10.66.0.3", path: "hub", rtt_ms: 41, invite_id: "i1" }),
    member("carol", "Carol", { kind: "agent", virtual_ip: "10.66.0.4", path: "relay", rtt_ms: 63, drops: [{ reason: "no_session", text: "There is no hub session with its recipient.", packets: 12 }] }),
    member("dave", "Dave", { kind: "device", virtual_ip: "10.66.0.5", is_online: false, path: null, rtt_ms: null, last_handshake: NOW - 90000, received: 0, sent: 0 }),
  ], {
    invites: [
      { invite_id: "i1", kind: "link", uses: 3, uses_left: 1, expires_at: NOW + 80000, created_at: NOW - 6400 },
      { invite_id: "i2", kind: "code", uses: 1, uses_left: 1, expires_at: NOW + 3000, created_at: NOW - 600 },
    ],
    bans: [{ peer_id: "mallory", public_key: null }],
  });
  return overview([friends, party("p2", "Chess", [], { access: "public", ends_at: NOW + 20000 })], {
    trouble: [{ what: "storage", text: "Nothing can be kept: the disk is full.", do: "Free some space, or see to the disk; running games are not affected." }],
    drops: [{ reason: "unknown", text: "It is neither STUN nor WireGuard.", packets: 4321 }],
    events: { last: 3 },
  });
}

export const EVENTS = [
  { number: 1, at: NOW - 900, kind: "party_created", party_id: "p1", party: "Friday games", text: "Friday games was created" },
  { number: 2, at: NOW - 600, kind: "joined", party_id: "p1", party: "Friday games", peer_id: "bob", name: "Bob's phone", text: "Bob's phone joined Friday games" },
  { number: 3, at: NOW - 60, kind: "relay_trouble", text: "The relay at 203.0.113.9 is gone" },
];

export const FILE = {
  peer_id: "device-1", name: "Zoë's phone", virtual_ip: "10.66.0.6",
  config: { address: "10.66.0.6/16", peer: { public_key: KEYS.hub, endpoint: "play.example.org:51820", allowed_ips: "10.66.0.0/16", persistent_keepalive: 25 } },
  text: `[Interface]\nAddress = 10.66.0.6/16\n\n[Peer]\nPublicKey = ${KEYS.hub}\nEndpoint = play.example.org:51820\nAllowedIPs = 10.66.0.0/16\nPersistentKeepalive = 25\n`,
};

/** Has the page's requests answered by `routes`: "METHOD /path" to an answer or to a function that makes one. */
export async function played(page, routes) {
  const asked = [];
  await page.route(/\/(overview|events|ui\/sessions|ui\/settings|parties|invites|devices|backup|restore)(\/|\?|$)/, async (route) => {
    const request = route.request();
    const url = new URL(request.url());
    const what = `${request.method()} ${url.pathname}`;
    const body = what === "POST /restore" ? request.postData() : request.postDataJSON();
    asked.push({ what, query: url.search, body, headers: request.headers(), url: request.url() });
    let answer = routes[what] ?? [404, { detail: "Not here" }];
    if (typeof answer === "function") answer = await answer(body, request);
    if (answer === null) return route.abort("connectionrefused");
    const [status, json, headers] = Array.isArray(answer) ? answer : [200, answer];
    return route.fulfill({ status, json: status === 304 ? undefined : json, headers });
  });
  return asked;
}

/** The routes of an owner who is signed in, with this overview. */
export const owned = (overview, more) => ({
  "POST /ui/sessions": { token: "s".repeat(43), expires_at: NOW + 3600 },
  "DELETE /ui/sessions": { status: "ended" },
  "GET /overview": () => (typeof overview === "function" ? overview() : overview),
  "GET /events": { events: EVENTS, last: 3 },
  ...more,
});

/** The routes of a guest. */
export const invited = (preview, more) => ({
  "POST /invites/preview": { party: "Friday games", host: "Alice", players: 3, online: 1, needs_password: false, expires_at: NOW + 80000, uses_left: 1, ...preview },
  "POST /invites/redeem": { ...FILE, party: "Friday games", device_token: "d".repeat(43) },
  "GET /devices/self": { peer_id: "device-1", name: "Zoë", party: "Friday games", virtual_ip: "10.66.0.6", last_handshake: null, is_online: false, members: [] },
  ...more,
});
