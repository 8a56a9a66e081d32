// The real daemon, started and stopped.
import { spawn } from "node:child_process";
import http from "node:http";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** `LANRAGE_BIN`, or what Cargo built last. */
export function binary() {
  if (process.env.LANRAGE_BIN) return process.env.LANRAGE_BIN;
  const built = ["debug", "release"].map((profile) => join(ROOT, "target", profile, "lanrage")).filter(existsSync);
  if (!built.length) throw new Error("build it first (cargo build), or set LANRAGE_BIN");
  return built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}

/** Starts one with these settings, on loopback. */
export async function startDaemon(settings = {}) {
  const state = mkdtempSync(join(tmpdir(), "lanrage-pages-"));
  const environment = { PATH: process.env.PATH, LANRAGE_STATE_DIR: state, LANRAGE_HTTP: "127.0.0.1:0", LANRAGE_RELAY: "127.0.0.1:0", LANRAGE_LOG: "debug" };
  for (const [name, value] of Object.entries(settings)) environment[`LANRAGE_${name}`] = value;
  const child = spawn(binary(), ["serve"], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (piece) => (log += piece));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    ended.then(() => reject(new Error(`the daemon ended: ${log}`)));
  });
  const [, host, port, relayPort] = /^listening http=([\d.]+):(\d+) relay=[\d.]+:(\d+)/.exec(line);
  return {
    url: `http://${host}:${port}`,
    port,
    relayPort,
    state,
    log: () => log,
    /** Asks as the owner of the machine, over the Unix socket. */
    ask(method, path, body) {
      const options = { socketPath: join(state, "control.sock"), method, path, headers: { Host: "lanrage", "Content-Type": "application/json" } };
      return new Promise((resolve, reject) => {
        const request = http.request(options, async (answer) => {
          let text = "";
          for await (const piece of answer) text += piece;
          if (answer.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`${answer.statusCode} ${text}`));
        });
        request.on("error", reject).end(body && JSON.stringify(body));
      });
    },
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(state, { recursive: true, force: true });
    },
  };
}
