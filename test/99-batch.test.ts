import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { formatTranscript, loadModel, Recognizer } from "../lib/index.js";
import { BatchQueue, jobsOf } from "../lib/serve/batch/batch_queue.js";
import { usmLite } from "./command_line.js";
import { asDecoded, servingFolder, until } from "./serving.js";
import { tones, writeWav } from "./tiny_model.js";

const main = join(dirname(fileURLToPath(import.meta.url)), "..", "lib", "cli", "main.js");
const folder = servingFolder("batch");
const recognizer = new Recognizer(loadModel(folder.model));
const haveRedis = spawnSync("redis-server", ["--version"]).status === 0;
const withRedis = haveRedis ? test : test.skip;
const redis = join(folder.path, "redis.sock");
const children: ChildProcess[] = [];
const queues: BatchQueue[] = [];

test.before(async () => {
  if (!haveRedis) return;
  const server = spawn("redis-server", ["--port", "0", "--unixsocket", redis, "--save", "", "--appendonly", "no"], {
    cwd: folder.path,
    stdio: "ignore",
  });
  children.push(server);
  await until(() => existsSync(redis) || server.exitCode !== null);
});
test.after.always(async () => {
  for (const opened of queues) await opened[Symbol.asyncDispose]();
  const alive = children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null);
  const exits = alive.map((child) => once(child, "exit"));
  for (const child of alive.reverse()) child.kill("SIGKILL");
  await Promise.all(exits);
  folder.clean();
});

/** A queue of its own for each test. */
async function queue(name: string) {
  const opened = await BatchQueue.open({ redis, queue: name });
  queues.push(opened);
  const connection = ["--redis", redis, "--queue", name];
  const command = async (action: string, ...args: string[]) => {
    const result = await usmLite("batch", action, ...connection, ...args);
    if (result.status !== 0) throw new Error(result.stderr);
    return result.stdout.trim();
  };
  return {
    command,
    status: () => opened.status(),
    work: (...args: string[]) => {
      const options = [main, "batch", "work", ...connection, "--model", folder.model, "--workers", "1", "--lock-seconds", "2", ...args];
      const child = spawn(process.execPath, options, {
        env: { ...process.env, USMLITE_THREADS: "1" },
        stdio: ["ignore", "ignore", "pipe"],
      });
      children.push(child);
      let log = "";
      child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
      return { child, exit: once(child, "exit"), log: () => log };
    },
  };
}

/** Recordings below a folder, and what their transcripts hold. */
function archive(name: string, lengths: readonly number[]) {
  const base = join(folder.path, name);
  mkdirSync(join(base, "deep"), { recursive: true });
  const out = join(folder.path, `${name}-out`);
  const clips = lengths.map((seconds, seed) => {
    const below = seed % 2 ? join("deep", `clip${seed}.wav`) : `clip${seed}.wav`;
    const samples = tones(seconds, seed);
    writeWav(join(base, below), samples);
    return {
      path: join(base, below),
      output: join(out, `${below}.json`),
      expected: formatTranscript(recognizer.transcribe(asDecoded(samples)), "json"),
    };
  });
  return { base, out, clips, add: ["--base", base, "--out", out] };
}

withRedis("an archive is transcribed whole although workers are killed in the middle of it (Redis)", async (t) => {
  const jobs = await queue("killed");
  const { clips, add, out } = archive("killed", [2, 60, 3, 60, 1, 60, 2, 60]);
  const list = join(folder.path, "list.txt");
  writeFileSync(
    list,
    clips
      .slice(4)
      .map(({ path }) => `${path}\n`)
      .join("\n"),
  );
  t.is(await jobs.command("add", ...add, "--list", list, ...clips.slice(0, 4).map(({ path }) => path)), "8 in the queue, 0 done already");
  t.deepEqual(JSON.parse(await jobs.command("status")), { waiting: 8, active: 0, delayed: 0, completed: 0, dead: 0 });
  for (let kill = 0; kill < 2; kill++) {
    const { child, exit } = jobs.work("--max-batch", "2");
    await until(async () => (await jobs.status()).active > 0 || child.exitCode !== null);
    child.kill("SIGKILL");
    await exit;
  }
  const { child, exit, log } = jobs.work();
  await until(() => clips.every(({ output }) => existsSync(output)));
  for (const { output, expected } of clips) t.is(readFileSync(output, "utf8"), expected);
  await until(async () => (await jobs.status()).completed === 8);
  t.deepEqual(await jobs.status(), { waiting: 0, active: 0, delayed: 0, completed: 8, dead: 0 });
  // Once more: nothing to do, but for what was lost meanwhile.
  rmSync((clips[2] as { output: string }).output);
  t.is(await jobs.command("add", ...add, ...clips.map(({ path }) => path)), "1 in the queue, 7 done already");
  await until(() => existsSync((clips[2] as { output: string }).output));
  t.is(readFileSync((clips[2] as { output: string }).output, "utf8"), (clips[2] as { expected: string }).expected);
  child.kill("SIGTERM");
  t.deepEqual(await exit, [0, null]);
  t.regex(log(), /done/);
  t.deepEqual(
    readdirSync(out).filter((name) => name.endsWith(".partial")),
    [],
  );
});

withRedis("what no try mends is a dead letter at once, other failures after some tries (Redis)", async (t) => {
  const jobs = await queue("dead");
  const { clips, add, base, out } = archive("dead", [1]);
  const damaged = join(base, "damaged.wav");
  const missing = join(base, "missing.wav");
  const blocked = join(base, "blocked.wav");
  writeFileSync(damaged, "these are words, not sound\n".repeat(30));
  writeWav(blocked, tones(1, 3));
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "no-folder"), ""); // where a folder is needed
  const { child, exit } = jobs.work();
  await jobs.command("add", ...add, "--attempts", "3", "--backoff", "0.01", damaged, missing, ...clips.map(({ path }) => path));
  await jobs.command("add", "--base", base, "--out", join(out, "no-folder"), "--attempts", "2", "--backoff", "0.01", blocked);
  await until(async () => (await jobs.status()).dead === 3 && (await jobs.status()).completed === 1);
  const letters = (await jobs.command("dead"))
    .split("\n")
    .map((line) => JSON.parse(line) as { audio: string; reason: string; attempts: number });
  const of = (path: string) => letters.find(({ audio }) => audio === path);
  t.regex(of(damaged)?.reason ?? "", /damaged\.wav.*\[BAD_AUDIO\]/);
  t.is(of(damaged)?.attempts, 1);
  t.regex(of(missing)?.reason ?? "", /missing\.wav.*\[FILE_NOT_FOUND\]/);
  t.regex(of(blocked)?.reason ?? "", /no-folder.*cannot be made/);
  t.is(of(blocked)?.attempts, 2);
  t.true(existsSync((clips[0] as { output: string }).output));
  // Mended, and tried again.
  rmSync(join(out, "no-folder"));
  writeWav(damaged, tones(1, 4));
  writeWav(missing, tones(1, 5));
  t.regex(await jobs.command("retry"), /^3 to be tried again$/);
  await until(async () => (await jobs.status()).completed === 4);
  t.true(existsSync(join(out, "damaged.wav.json")) && existsSync(join(out, "no-folder", "blocked.wav.json")));
  t.is(readFileSync(join(out, "missing.wav.json"), "utf8"), formatTranscript(recognizer.transcribe(asDecoded(tones(1, 5))), "json"));
  child.kill("SIGTERM");
  t.deepEqual(await exit, [0, null]);
});

withRedis("a worker that is told to end finishes what it has (Redis)", async (t) => {
  const jobs = await queue("ended");
  const { clips, add } = archive("ended", [80, 80, 80]);
  await jobs.command("add", ...add, ...clips.map(({ path }) => path));
  const { child, exit } = jobs.work("--max-batch", "1");
  await until(async () => (await jobs.status()).active === 1 || (await jobs.status()).completed > 0);
  child.kill("SIGTERM");
  t.deepEqual(await exit, [0, null]);
  const { waiting, active, completed } = await jobs.status();
  t.is(active, 0);
  t.is(waiting + completed, 3);
  t.is(clips.filter(({ output }) => existsSync(output)).length, completed);
});

test("misuse of the queue is said at once", async (t) => {
  const nowhere = ["--redis", join(folder.path, "nowhere.sock")];
  const add = ["add", ...nowhere, "--out", folder.path];
  const recording = join(folder.path, "x.wav");
  const cases: [string[], number, RegExp][] = [
    [["add", "--out", folder.path], 2, /nothing to add.*\[INVALID_ARGUMENT\]/],
    [["add", "a.wav"], 2, /--out/],
    [["add", "--out", folder.path, "--list", join(folder.path, "no.txt")], 1, /no\.txt.*\[FILE_NOT_FOUND\]/],
    [[...add, "--base", join(folder.path, "model"), recording], 2, /x\.wav does not lie below .*--base \[INVALID_ARGUMENT\]/],
    [[...add, "--base", folder.path, recording], 1, /\[SERVICE_UNREACHABLE\]/],
    [["status", ...nowhere], 1, /no Redis answers at .*nowhere\.sock.*\[SERVICE_UNREACHABLE\]/],
    [["work", ...nowhere, "--model", folder.model], 1, /\[SERVICE_UNREACHABLE\]/],
    [["work", "--lock-seconds", "0"], 2, /--lock-seconds 0/],
    [["fetch"], 2, /unknown command/],
  ];
  for (const [args, status, message] of cases) {
    const result = await usmLite("batch", ...args);
    t.deepEqual([result.status, result.stdout], [status, ""], `${args.join(" ")}: ${result.stderr}`);
    t.regex(result.stderr, message);
  }
  const settings = { out: "out", base: folder.path, format: "srt", keywords: ["a word"] } as const;
  const audio = join(folder.path, "deep", "x.wav");
  t.deepEqual(jobsOf([audio], settings), [{ audio, output: resolve("out", "deep", "x.wav.srt"), format: "srt", keywords: ["a word"] }]);
  const refused = (base: string, keywords: string[], message: RegExp): void =>
    void t.throws(() => jobsOf([recording], { ...settings, base, keywords }), { code: "INVALID_ARGUMENT", message });
  for (const base of [recording, join(folder.path, "x"), `${folder.path}-beside`]) refused(base, [], /does not lie below/);
  refused(folder.path, ["?!"], /the keyword "\?!" has no letters A-Z/);
  for (const name of ["", "a:b"]) {
    await t.throwsAsync(BatchQueue.open({ redis: "http://x", queue: name }), {
      code: "INVALID_ARGUMENT",
      message: /no queue can have the name/,
    });
  }
  await t.throwsAsync(BatchQueue.open({ redis: "http://x", queue: "a" }), { code: "INVALID_ARGUMENT", message: /no address of Redis/ });
});
