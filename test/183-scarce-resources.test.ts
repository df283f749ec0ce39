/** What the system refuses, memory, threads or room on a disk, is a coded error or is done without; nothing ends the process. */
import { execFile } from "node:child_process";
import fs, { existsSync, readdirSync, readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import test from "ava";
import { OutputLock } from "../lib/checkpoint/output_lock.js";
import { writeFileAtomically } from "../lib/checkpoint/atomic_file.js";
import { layerNorm, setThreadCount, Tape, Tensor, threadCount, tidy } from "../lib/index.js";
import { randomTensor } from "./gradient.js";
import { temporaryFolder } from "./tiny_model.js";

const library = new URL("../lib/index.js", import.meta.url).href;
const folder = temporaryFolder("scarce-resources");
test.after.always(folder.clean);

/** What `body` assigns to `result` in a process with limits of the shell: kilobytes of address space and of each thread's stack. */
function withLimits(body: string, { memory, stack }: { memory: number; stack?: number }): Promise<unknown> {
  const source = `import * as lib from ${JSON.stringify(library)}; let result; ${body} console.log(JSON.stringify(result));`;
  const limits = `ulimit -v ${memory}; ${stack === undefined ? "" : `ulimit -s ${stack};`}`;
  return new Promise((resolve, reject) => {
    execFile(
      "/bin/sh",
      ["-c", `${limits} exec "$0" --input-type=module --eval "$1"`, process.execPath, source],
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
      t.true(found.every((value, i) => Math.abs(value - (expected[i] as number)) < 1e-3), `time ${repeat}`);
    }
  } finally {
    changing.postMessage("stop");
    await ended;
    setThreadCount(before);
  }
});

test.serial("a file is whole however little the system takes at a time, and a full disk leaves none", (t) => {
  const path = join(folder.path, "file");
  withSlowWrites(Infinity, () => writeFileAtomically(path, (append) => append(Buffer.from("all of it"))));
  t.is(readFileSync(path, "utf8"), "all of it");
  withSlowWrites(4, () => {
    t.throws(() => writeFileAtomically(path, (append) => append(Buffer.from("another one"))), { code: "FILE_UNWRITABLE", message: /no space/ });
  });
  t.is(readFileSync(path, "utf8"), "all of it");
  t.deepEqual(readdirSync(folder.path), ["file"]);
});

test.serial("a lock for which there is no room is an error, and is not kept", (t) => {
  const out = join(folder.path, "run");
  withSlowWrites(3, () => t.throws(() => OutputLock.inside(out), { code: "FILE_UNWRITABLE", message: /run cannot be written: ENOSPC/ }));
  t.false(existsSync(join(out, ".lock")));
  using _lock = OutputLock.inside(out);
  t.deepEqual(readdirSync(out), [".lock"]);
});
