/** What the system refuses, memory, threads or room on a disk, is a coded error or is done without; nothing ends the process. */
import { execFile } from "node:child_process";
import fs, { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import test from "ava";
import { OutputLock } from "../lib/checkpoint/output_lock.js";
import { writeFileAtomically } from "../lib/checkpoint/atomic_file.js";
import {
  layerNorm,
  loadModel,
  readTrainingConfig,
  setThreadCount,
  Tape,
  Tensor,
  threadCount,
  tidy,
  trainFloatModel,
} from "../lib/index.js";
import { main } from "./command_line.js";
import { randomTensor } from "./gradient.js";
import { temporaryFolder, tinyEncoder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const library = new URL("../lib/index.js", import.meta.url).href;
const folder = temporaryFolder("scarce-resources");
test.after.always(folder.clean);
let programs = 0;

/** Of the shell: kilobytes of address space and of each thread's stack, open files, half kilobytes that a file may have. */
type Limits = Readonly<Partial<Record<"memory" | "stack" | "files" | "fileSize", number>>>;

/** What `body` assigns to `result` in a process with limits. */
function withLimits(body: string, { memory, stack, files, fileSize }: Limits): Promise<unknown> {
  const source = `import * as lib from ${JSON.stringify(library)}; let result; ${body} console.log(JSON.stringify(result));`;
  const limits = Object.entries({ v: memory, s: stack, n: files, f: fileSize })
    .map(([name, limit]) => (limit === undefined ? "" : `ulimit -${name} ${limit};`))
    .join("");
  const file = join(folder.path, `${(programs += 1)}.mjs`);
  writeFileSync(file, source);
  return new Promise((resolve, reject) => {
    execFile(
      "/bin/sh",
      ["-c", `${limits} exec "$0" "$1"`, process.execPath, file],
      { env: { ...process.env, USMLITE_THREADS: stack === undefined ? "1" : "256" } },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`the process ended with ${error.code ?? error.signal}: ${stderr.slice(0, 500)}`));
        else resolve(JSON.parse(stdout));
      },
    );
  });
}

/** Writing as the system may do it: one byte at a time; after `room` bytes the disk is full. */
function withSlowWrites(room: number, body: () => void): void {
  const { writeSync } = fs;
  let written = 0;
  fs.writeSync = ((handle: number, bytes: Uint8Array, begin: number) => {
    if (written++ >= room) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });
    return writeSync(handle, bytes, begin, 1);
  }) as typeof writeSync;
  syncBuiltinESMExports();
  try {
    body();
  } finally {
    fs.writeSync = writeSync;
    syncBuiltinESMExports();
  }
}

test("samples that memory cannot hold are an error, and the process goes on", async (t) => {
  const body = `
    const samples = new Float32Array(2 ** 26); // of which 64 GiB would become
    try { lib.resample(samples, 1, 256); } catch (error) { result = [error.code, error.message]; }
    result.push(lib.resample(new Float32Array(100), 1, 2).length);`;
  t.deepEqual(await withLimits(body, { memory: 20_000_000 }), [
    "OUT_OF_MEMORY",
    `no room for ${2 ** 34} samples at once; take audio in shorter pieces`,
    200,
  ]);
});

test("a command that may not open its own modules says so in one line", async (t) => {
  const run = (files: number): Promise<[status: number, stdout: string, stderr: string]> =>
    new Promise((resolve) => {
      const command = `ulimit -n ${files}; exec "$0" "$1" inspect --help`;
      execFile("/bin/sh", ["-c", command, process.execPath, main], (error, stdout, stderr) =>
        resolve([error ? Number(error.code ?? -1) : 0, stdout, stderr]),
      );
    });
  // The most that are too few: versions of Node.js open more modules at once or fewer.
  let [files, outcome] = [26, await run(26)];
  while (outcome[0] === 0 && files > 10) outcome = await run(--files);
  const [status, stdout, stderr] = outcome;
  t.deepEqual([status, stdout], [1, ""]);
  const told = /^usm-lite: EMFILE: too many open files, open [^\n]*; allow the process more open files [^\n]*\[FILE_UNREADABLE\]\n$/;
  t.regex(stderr, told);
  t.is((await run(64))[0], 0);
});

test("where the system does not allow as many threads, fewer compute", async (t) => {
  const body = `
    const product = lib.matmul(lib.Tensor.from(new Float32Array(512 * 64).fill(1), [512, 64]), lib.Tensor.from(new Float32Array(64 * 64).fill(1), [64, 64]));
    result = [lib.threadCount(), product.toArray().every((value) => value === 64)];
    lib.setThreadCount(200);
    result.push(lib.threadCount() < 200);`;
  const [threads, right, fewer] = (await withLimits(body, { memory: 8_000_000, stack: 65_536 })) as [number, boolean, boolean];
  t.true(threads >= 1 && threads < 256, `${threads} threads`);
  t.deepEqual([right, fewer], [true, true]);
});

test.serial("the number of threads may change in the middle of an operation", async (t) => {
  const before = threadCount();
  const source = `
    import { setThreadCount } from ${JSON.stringify(library)};
    import { parentPort } from "node:worker_threads";
    let going = true;
    parentPort.on("message", () => { going = false; });
    const change = (i) => { setThreadCount(1 + (i % 3) * 4); if (going) setImmediate(change, i + 1); else parentPort.close(); };
    change(0);
    parentPort.postMessage("begun");`;
  const changing = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
  const ended = new Promise((resolve) => changing.once("exit", resolve));
  const [x, weight] = [randomTensor([16, 40_000], 1), randomTensor([40_000], 2)];
  weight.requiresGrad = true;
  const weightGradient = (): Float32Array =>
    tidy(() => {
      using tape = new Tape();
      const y = tape.record(() => layerNorm(x, weight, { epsilon: 1e-5 }));
      tape.backward(y, randomTensor(y.shape, 3));
      return (tape.gradientOf(weight) as Tensor).toArray();
    });
  const expected = weightGradient();
  await new Promise((resolve, reject) => changing.once("message", resolve).once("error", reject));
  try {
    for (let repeat = 0; repeat < 60; repeat++) {
      const found = weightGradient();
      t.true(
        found.every((value, i) => Math.abs(value - (expected[i] as number)) < 1e-3),
        `time ${repeat}`,
      );
    }
  } finally {
    changing.postMessage("stop");
    await ended;
    setThreadCount(before);
  }
});

test("a process that may open no more files says so, whatever it was about, leaves nothing, and goes on", async (t) => {
  const model = writeTinyModel(join(folder.path, "model"));
  const out = join(folder.path, "scarce");
  mkdirSync(out);
  writeFileSync(join(out, "old.json"), "old");
  const body = `
    const { closeSync, openSync, readdirSync, readFileSync } = await import("node:fs");
    const { writeTextFile } = await import(${JSON.stringify(new URL("../lib/checkpoint/atomic_file.js", import.meta.url).href)});
    const [model, out] = ${JSON.stringify([model, out])};
    const recipe = lib.parseRecipe("stages: [{modifiers: [{type: round-to-nearest, spec: int8}]}]", "r");
    /** Codes of the failures with 0, 1, .. files that may be opened, until there are enough. */
    const outcomes = async (action, step = 1) => {
      const codes = new Set();
      for (let free = 0; free < 200; free += step) {
        const held = [];
        try { for (;;) held.push(openSync("/dev/null")); } catch {}
        for (let i = 0; i < free; i++) closeSync(held.pop());
        let code = "done";
        try { await action(); } catch (error) { code = error instanceof lib.UsmLiteError ? error.code : String(error); }
        for (const handle of held) closeSync(handle);
        codes.add(code);
        if (code === "done") break;
        codes.add(readdirSync(out).join());
        codes.add(readFileSync(out + "/old.json", "utf8"));
      }
      return [...codes];
    };
    result = [
      await outcomes(() => lib.compressModel({ model, recipe, out: out + "/packed" })),
      lib.measureModel(out + "/packed").layers.length > 0,
      await outcomes(() => writeTextFile(out + "/old.json", "new")),
      readFileSync(out + "/old.json", "utf8"),
      await outcomes(async () => (await lib.Transcriber.load({ model }))[Symbol.asyncDispose](), 70),
    ];`;
  t.deepEqual(await withLimits(body, { files: 300 }), [
    ["FILE_UNREADABLE", "old.json", "old", "FILE_UNWRITABLE", "done"],
    true,
    ["FILE_UNWRITABLE", "old.json,packed", "old", "done"],
    "new",
    ["FILE_UNREADABLE", "old.json,packed", "new", "done"],
  ]);
});

test("training for which there is no room is an error, and goes on in its folder when there is", async (t) => {
  const config = join(folder.path, "training.yaml");
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 4);
  writeFileSync(config, JSON.stringify({ model: tinyEncoder, data: { train: [manifest], speeds: [1] }, epochs: 2 }));
  const out = join(folder.path, "run");
  const body = `
    try { await lib.trainFloatModel(lib.readTrainingConfig(${JSON.stringify(config)}), { out: ${JSON.stringify(out)}, resume: false }); }
    catch (error) { result = [error.code, error.message]; }`;
  const [code, message] = (await withLimits(body, { fileSize: 400 })) as [string, string];
  t.is(code, "FILE_UNWRITABLE");
  t.regex(message, /checkpoints\/step-.*safetensors cannot be written: EFBIG/);
  t.false(existsSync(join(out, "model")));
  t.deepEqual(readdirSync(join(out, "checkpoints")), []);
  t.deepEqual(
    readdirSync(out).filter((name) => name.startsWith(".")),
    [],
    "neither lock nor temporary file",
  );
  t.true((await trainFloatModel(readTrainingConfig(config), { out, resume: true })).completed);
  t.notThrows(() => loadModel(join(out, "model")));
});

test.serial("a file is whole however little the system takes at a time, and a full disk leaves none", (t) => {
  const path = join(folder.path, "file");
  withSlowWrites(Infinity, () => writeFileAtomically(path, (append) => append(Buffer.from("all of it"))));
  t.is(readFileSync(path, "utf8"), "all of it");
  withSlowWrites(4, () => {
    t.throws(() => writeFileAtomically(path, (append) => append(Buffer.from("another one"))), {
      code: "FILE_UNWRITABLE",
      message: /no space/,
    });
  });
  t.is(readFileSync(path, "utf8"), "all of it");
  t.deepEqual(
    readdirSync(folder.path).filter((name) => name.includes("file")),
    ["file"],
  );
});

test.serial("a lock for which there is no room is an error, and is not kept", (t) => {
  const out = join(folder.path, "run");
  withSlowWrites(3, () => t.throws(() => OutputLock.inside(out), { code: "FILE_UNWRITABLE", message: /run cannot be written: ENOSPC/ }));
  t.false(existsSync(join(out, ".lock")));
  using _lock = OutputLock.inside(out);
  t.deepEqual(readdirSync(out), [".lock"]);
});
