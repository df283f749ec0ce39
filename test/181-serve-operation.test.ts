/** What operators do to a server, and what machines do: keys that change, logs that cannot be written. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, cpSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { UsmLiteError } from "../lib/operations.js";
import { LogOutput } from "../lib/serve/log_output.js";
import { ApiKeys } from "../lib/serve/api_keys.js";
import { main } from "./command_line.js";
import { beginUpload, form, metric, servingFolder, startServer, until, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-operation");
test.after.always(folder.clean);

/** A pipe that holds 64 kB, with an end for each purpose. */
function pipe(name: string): { reading: number; writing: number } {
  const path = join(folder.path, name);
  execFileSync("mkfifo", [path]);
  const reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { reading, writing: openSync(path, constants.O_WRONLY | constants.O_NONBLOCK) };
}

/** The end of a pipe to write to; undefined while nobody reads. */
function openIfRead(path: string): number | undefined {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENXIO") return undefined;
    throw error;
  }
}

test("lines wait for a slow reader, whole and in order, and are dropped when there are too many", async (t) => {
  const { reading, writing } = pipe("slow");
  let dropped = 0;
  const output = new LogOutput(writing, () => dropped++);
  await output.flush(); // nothing to wait for
  const lines = Array.from({ length: 3000 }, (_, index) => `${index} ${"x".repeat(500)}\n`);
  for (const line of lines) output.write(line);
  t.true(dropped > 500 && dropped < 1500, `${dropped} of 1.5 MB above 1 MiB`);
  const block = Buffer.alloc(1 << 16);
  let text = "";
  const wanted = lines.slice(0, lines.length - dropped).join("");
  while (text.length < wanted.length) {
    try {
      text += block.toString("utf8", 0, readSync(reading, block));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      await sleep(5);
    }
  }
  t.is(text, wanted);
  await output.flush();
  output.write("and again\n");
  await output.flush();
  t.is(block.toString("utf8", 0, readSync(reading, block)), "and again\n");
  closeSync(reading);
  output.write("nobody reads this\n");
  await output.flush();
  output.write("nor this\n");
  t.is(dropped, 1 + 3000 - wanted.split("\n").length + 1);
  closeSync(writing);
});

test("a disk that is full costs lines, and nothing else", async (t) => {
  const full = openSync("/dev/full", "w");
  let dropped = 0;
  const output = new LogOutput(full, () => dropped++);
  for (let line = 0; line < 1200; line++) output.write("x".repeat(1000));
  t.true(dropped > 100);
  const child = spawn(process.execPath, [main, "serve", "--model", folder.model, "--port", "0", "--workers", "1"], {
    env: { ...process.env, USMLITE_THREADS: "1" },
    stdio: ["ignore", "pipe", full],
  });
  t.teardown(() => void child.kill("SIGKILL"));
  const [line] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
  const url = /at (http:\S+)/.exec(line.toString("utf8"))?.[1] as string;
  const body = form(wav(tones(1, 1)), [["model", "whisper-1"]]);
  t.is((await fetch(`${url}/v1/audio/transcriptions`, { method: "POST", body })).status, 200);
  child.kill("SIGTERM");
  t.deepEqual(await once(child, "exit"), [0, null]);
  await output.flush();
  closeSync(full);
});

test("health and metrics have a port of their own when they are given one", async (t) => {
  const server = await startServer(folder.model, { metricsPort: 0, maximumConnections: 1 });
  const url = server.metricsUrl as string;
  t.not(new URL(url).port, new URL(server.url).port);
  const idle = connect(Number(new URL(server.url).port), "127.0.0.1");
  await once(idle, "connect"); // there is no other connection for clients
  const get = async (path: string): Promise<number> => (await fetch(`${url}${path}`)).status;
  t.regex(await (await fetch(`${url}/v1/models`)).text(), /there are GET \/health\/live, \/health\/ready and \/metrics"/);
  t.deepEqual(
    [await get("/health/live"), await get("/health/ready"), await get("/metrics"), await get("/v1/models")],
    [200, 200, 200, 404],
  );
  idle.destroy();
  const close = { headers: { connection: "close" } };
  await until(async () => (await fetch(`${server.url}/metrics`, close).catch(() => undefined))?.status === 404);
  t.notRegex(await (await fetch(`${server.url}/metrics`, close)).text(), /there are .*\/metrics/);
  await until(async () => (await (await fetch(`${url}/metrics`)).text()).includes("\nusmlite_connections_open 0\n"));
  const upload = await beginUpload(server);
  upload.on("error", () => undefined);
  await until(() => server.dispatcher.receiving === 1);
  const drained = server.drain();
  t.is(await get("/health/ready"), 503);
  upload.destroy();
  await drained;
  await t.throwsAsync(get("/health/live"));
});

test("a server that ends does not wait for a model that is being loaded", async (t) => {
  const model = join(folder.path, "slow model");
  cpSync(folder.model, model, { recursive: true });
  const server = await startServer(model);
  rmSync(join(model, "config.json"));
  execFileSync("mkfifo", [join(model, "config.json")]);
  const reloaded = server.reload();
  const again = server.reload();
  let writing: number | undefined; // opens once the new engine has opened the other end, to read what never comes
  await until(() => (writing = openIfRead(join(model, "config.json"))) !== undefined);
  await server.drain();
  t.throws(() => writeSync(writing as number, "{"), { code: "EPIPE" }, "nobody reads any more");
  closeSync(writing as number);
  await reloaded;
  await again;
  await server.reload();
});

test("API keys are read again on reload; what they have under way still counts", async (t) => {
  const path = join(folder.path, "keys.json");
  const write = (...keys: object[]): void => writeFileSync(path, JSON.stringify(keys));
  const [old, kept, fresh] = ["old-key-0123456789", "kept-key-0123456789", "new-key-0123456789"];
  write({ name: "old", key: old }, { name: "kept", key: kept });
  await using server = await startServer(folder.model, { apiKeys: path });
  const status = async (key: string): Promise<number> =>
    (await fetch(`${server.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;
  t.deepEqual([await status(old as string), await status(kept as string), await status(fresh as string)], [200, 200, 401]);
  write({ name: "renamed", key: kept }, { name: "fresh", key: fresh });
  await server.reload();
  t.deepEqual([await status(old as string), await status(kept as string), await status(fresh as string)], [401, 200, 200]);
  writeFileSync(path, "[");
  await t.throwsAsync(server.reload(), { instanceOf: UsmLiteError, code: "BAD_CONFIG" });
  t.is(await status(fresh as string), 200, "a reload that fails changes nothing");
  t.is(await metric(server, 'model_reloads_total{result="failed"}'), 1);

  const twice = [kept, kept].map((key, index) => ({ name: `owner-${index}`, key: key as string }));
  t.throws(() => new ApiKeys(twice), { code: "BAD_CONFIG", message: /"owner-0" and "owner-1" have the same key/ });
  let now = 0;
  const keys = new ApiKeys([{ name: "a", key: kept as string, requestsPerMinute: 2, concurrent: 2 }], () => now);
  const leave = keys.find(kept as string)?.enter();
  keys.replace([{ name: "b", key: kept as string, requestsPerMinute: 60, concurrent: 1 }]);
  const owner = keys.find(kept as string);
  t.is(owner?.name, "b");
  t.throws(() => owner?.enter(), { message: /may have 1 requests under way/ });
  leave?.();
  owner?.enter()();
  t.throws(() => owner?.enter(), { message: /60 requests a minute/ }, "the minute goes on");
  now += 1000;
  t.notThrows(() => owner?.enter());
});
