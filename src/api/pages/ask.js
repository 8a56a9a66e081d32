// Requests to the daemon.

/** Why something was not done: the status, 0 if nobody answered, and the reason that the daemon gave. */
export class Failure extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const PATIENCE = 15000;

/** Asks as who has the token. Gives the answer whose status is 200, or 304 where `known` is a tag. A `file` takes its time. */
export async function send(method, path, { body, file, token, known, keepalive, isSlow } = {}) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  if (known) headers["If-None-Match"] = known;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      keepalive,
      body: file ?? (body && JSON.stringify(body)),
      cache: "no-store",
      credentials: "omit",
      signal: isSlow ? null : AbortSignal.timeout?.(PATIENCE),
    });
  } catch {
    throw new Failure(0, "");
  }
  if (answer.ok || (known && answer.status === 304)) return answer;
  throw new Failure(answer.status, detailOf(await answer.json().catch(() => ({}))));
}

function detailOf({ detail }) {
  return Array.isArray(detail) ? detail.map((item) => `${item.loc?.at(-1)}: ${item.msg}`).join("; ") : `${detail ?? ""}`;
}

/** The same, and gives the JSON of the answer. */
export async function ask(method, path, options) {
  const answer = await send(method, path, options);
  try {
    return await answer.json();
  } catch {
    throw new Failure(0, "");
  }
}
