/** Runs that meet at one output, and what killed ones leave behind. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import test from "ava";
import { compressModel, readTrainingConfig, trainFloatModel } from "../lib/index.js";
import { writeFileAtomically, writeTextFile } from "../lib/checkpoint/atomic_file.js";
import { writeFolderAtomically } from "../lib/checkpoint/atomic_folder.js";
import { OutputLock } from "../lib/checkpoint/output_lock.js";
import { lockFile } from "../lib/native/file_lock.js";
import { tuneLanguageModel } from "../lib/transcribe/language_model_tuning.js";
import { usmLite } from "./command_line.js";
import { roundToNearest } from "./recipes.js";
import { temporaryFolder, tinyEncoder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("output-locks");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);
const place = (name: string): string => {
  mkdirSync(path(name));
  return path(name);
};
const model = writeTinyModel(path("model"));
const manifest = writeTinyCorpus(path("corpus"), 2);

/** A process that runs `code`; resolves when it has said something, or has ended. */
async function elsewhere(code: string): Promise<ChildProcess> {
  const from = (module: string): string => JSON.stringify(new URL(`../lib/${module}`, import.meta.url).href);
  const source = `
    import { OutputLock } from ${from("checkpoint/output_lock.js")};
    import { writeFileAtomically } from ${from("checkpoint/atomic_file.js")};
    import { writeFolderAtomically } from ${from("checkpoint/atomic_folder.js")};
    import fs, { writeFileSync } from "node:fs";
    import { syncBuiltinESMExports } from "node:module";
    const kill = () => process.kill(process.pid, "SIGKILL");
    ${code}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: ["pipe", "pipe", "inherit"] });
  await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  return child;
}

const killed = async (t: { is(actual: unknown, expected: unknown): unknown }, code: string): Promise<void> => {
  const child = await elsewhere(code);
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  t.is(child.signalCode, "SIGKILL");
};

test("a lock is one run's, says whose, and goes with it", async (t) => {
  const out = join(place("owner"), "packed");
  {
    using _lock = OutputLock.beside(out);
    t.throws(() => OutputLock.beside(`${out}/../packed`), {
      code: "OUTPUT_IN_USE",
      message:
        /packed is being written by this process itself \(since 20.*Z\); wait until that has ended, or end it, or name another place$/,
    });
    using _other = OutputLock.inside(out);
    t.deepEqual(readdirSync(out), [".lock"]);
    t.throws(() => OutputLock.inside(out), { code: "OUTPUT_IN_USE" });
  }
  t.deepEqual([readdirSync(path("owner")), readdirSync(out)], [["packed"], []]);

  const child = await elsewhere(
    `globalThis.lock = OutputLock.beside(${JSON.stringify(out)}); console.log("ready"); process.stdin.resume();`,
  );
  const held = { code: "OUTPUT_IN_USE", message: new RegExp(`written by process ${child.pid} on ${hostname()} \\(since `) };
  t.throws(() => OutputLock.beside(out), held);
  writeFileSync(path("owner", ".packed.lock"), ""); // as it is before its owner has signed it
  t.throws(() => OutputLock.beside(out), { ...held, message: /written by another process;/ });
  child.kill("SIGKILL");
  await once(child, "exit");
  t.true(existsSync(path("owner", ".packed.lock")), "nobody could remove it");
  using again = OutputLock.beside(out);
  again[Symbol.dispose]();
  again[Symbol.dispose]();
  using _next = OutputLock.beside(out);
  t.like(JSON.parse(readFileSync(path("owner", ".packed.lock"), "utf8")), { pid: process.pid });
});

test("what cannot be a lock is an error, and left as it is", (t) => {
  const out = join(place("strange"), "packed");
  writeFileSync(path("strange", "precious"), "three years");
  symlinkSync("precious", path("strange", ".packed.lock"));
  const refused = { code: "FILE_UNWRITABLE", message: /packed cannot be written: its lock .*\.packed\.lock cannot be opened: ELOOP/ };
  t.throws(() => OutputLock.beside(out), refused);
  t.is(readFileSync(path("strange", "precious"), "utf8"), "three years");
  mkdirSync(path("strange", ".folder.lock"));
  t.throws(() => OutputLock.beside(path("strange", "folder")), { ...refused, message: /EISDIR/ });
  t.throws(() => OutputLock.beside("/proc/none/packed"), { code: "FILE_UNWRITABLE" });
  t.throws(() => lockFile(-1), { code: "INVALID_ARGUMENT" });
  t.is(lockFile(987_654), "unsupported", "no open file");
});

test.serial("a second run is refused before it computes anything, whichever command it is", async (t) => {
  const out = join(place("runs"), "out");
  const held = { code: "OUTPUT_IN_USE", message: /being written by this process itself/ };
  const training = path("training.yaml");
  writeFileSync(training, JSON.stringify({ model: tinyEncoder, data: { train: [manifest], speeds: [1] }, epochs: 1 }));
  {
    using _lock = OutputLock.inside(out);
    await t.throwsAsync(trainFloatModel(readTrainingConfig(training), { out, resume: false }), held);
    await t.throwsAsync(trainFloatModel(readTrainingConfig(training), { out, resume: true }), held);
    t.deepEqual(readdirSync(out), [".lock"]);
  }
  const packed = path("runs", "packed");
  const compress = () => compressModel({ model, recipe: roundToNearest("int8"), manifest: undefined, out: packed });
  {
    using _lock = OutputLock.beside(packed);
    await t.throwsAsync(compress(), held);
    const { status, stdout, stderr } = await usmLite("adapt", "--model", model, "--data", manifest, "--out", packed);
    t.deepEqual([status, stdout], [1, ""]);
    t.regex(stderr, new RegExp(`packed is being written by process ${process.pid} on .*\\[OUTPUT_IN_USE\\]\n$`));
  }
  t.true(await compress());
  {
    using _lock = OutputLock.beside(join(model, "language_model.json"));
    await t.throwsAsync(tuneLanguageModel({ model, data: manifest }), held);
  }
  await t.throwsAsync(compressModel({ model: path("none"), recipe: roundToNearest("int8"), manifest: undefined, out: path("runs", "no") }));
  t.deepEqual(readdirSync(path("runs")).sort(), ["out", "packed"], "no lock stays, whatever the end");
});

test("the temporary file of a killed process is taken over by the next one", async (t) => {
  const file = join(place("file"), "a.txt");
  writeTextFile(file, "old");
  const code = `writeFileAtomically(${JSON.stringify(file)}, (append) => { append(Buffer.alloc(1e6, "x")); kill(); });`;
  for (let again = 0; again < 2; again++) await killed(t, code);
  t.deepEqual(readdirSync(path("file")), [".a.txt.partial", "a.txt"], "one, however many were killed");
  t.is(readFileSync(file, "utf8"), "old");
  writeTextFile(file, "new");
  t.deepEqual(readdirSync(path("file")), ["a.txt"]);
  t.is(readFileSync(file, "utf8"), "new");
});

test("writers of one file at the same time do not meet", (t) => {
  const file = join(place("writers"), "a.txt");
  writeFileAtomically(file, (append) => {
    append(Buffer.from("first, "));
    writeTextFile(file, "second");
    t.is(readFileSync(file, "utf8"), "second");
    const fail = (): void => {
      throw new RangeError("there is no more");
    };
    t.throws(() => writeFileAtomically(file, fail), { instanceOf: RangeError });
    append(Buffer.from("but last"));
  });
  t.is(readFileSync(file, "utf8"), "first, but last");
  t.deepEqual(readdirSync(path("writers")), ["a.txt"]);
  for (const number of [1, 3]) writeFileSync(path("writers", `.a.txt.${number}.partial`), "of writers that were killed");
  writeFileAtomically(file, () => writeTextFile(file, "one of two"));
  t.deepEqual(readdirSync(path("writers")), ["a.txt"]);
});

test("what only looks like a temporary file is nobody's to take", (t) => {
  const file = join(place("foreign"), "a.txt");
  const precious = path("foreign", "precious");
  writeFileSync(precious, "three years");
  symlinkSync(precious, path("foreign", ".a.txt.partial"));
  linkSync(precious, path("foreign", ".a.txt.1.partial"));
  mkdirSync(path("foreign", ".a.txt.2.partial"));
  symlinkSync("nowhere", path("foreign", ".a.txt.3.partial"));
  if (process.geteuid?.() === 0) {
    writeFileSync(path("foreign", ".a.txt.4.partial"), "another user's");
    chownSync(path("foreign", ".a.txt.4.partial"), 12_345, 12_345);
  }
  const before = readdirSync(path("foreign"));
  writeTextFile(file, "a");
  t.deepEqual(
    readdirSync(path("foreign")).filter((name) => name !== "a.txt"),
    before,
  );
  t.is(readFileSync(precious, "utf8"), "three years");
  t.is(readFileSync(file, "utf8"), "a");
});

test("the temporary folder of a killed process is taken over, with what was being exchanged", async (t) => {
  const target = join(place("folder"), "adapter");
  const fill = (text: string) => (temporary: string) => writeFileSync(join(temporary, "a.txt"), text);
  writeFolderAtomically(target, fill("old"));
  const write = `writeFolderAtomically(${JSON.stringify(target)}`;
  await killed(t, `${write}, (folder) => { writeFileSync(folder + "/half.txt", "half"); kill(); }, { replace: true });`);
  t.deepEqual(readdirSync(path("folder")), [".adapter.partial", "adapter"]);

  // Between the renaming of the old one and that of the new one.
  const dies = `const { renameSync } = fs; let count = 0; fs.renameSync = (...names) => { if (++count === 2) kill(); renameSync(...names); };`;
  await killed(t, `${dies} syncBuiltinESMExports(); ${write}, () => {}, { replace: true });`);
  t.deepEqual(readdirSync(path("folder")), [".adapter.partial", ".adapter.partial-old"]);
  const failing = (): void => {
    throw new RangeError("the weights are gone");
  };
  t.throws(() => writeFolderAtomically(target, failing, { replace: true }), { instanceOf: RangeError });
  t.is(readFileSync(join(target, "a.txt"), "utf8"), "old", "it came back");
  writeFolderAtomically(target, fill("new"), { replace: true });
  t.is(readFileSync(join(target, "a.txt"), "utf8"), "new");
  t.deepEqual(readdirSync(path("folder")), ["adapter"]);

  // After both, before the old one went.
  mkdirSync(path("folder", ".adapter.partial-old"));
  writeFileSync(path("folder", ".adapter.partial-old", "a.txt"), "old");
  writeFolderAtomically(target, fill("newest"), { replace: true });
  t.deepEqual([readdirSync(path("folder")), readFileSync(join(target, "a.txt"), "utf8")], [["adapter"], "newest"]);
});

test("makers of one folder at the same time do not meet, and a stranger's folder stays", (t) => {
  const target = join(place("makers"), "adapter");
  const write = (text: string, inside?: () => void): void =>
    writeFolderAtomically(
      target,
      (temporary) => {
        writeFileSync(join(temporary, "a.txt"), text);
        inside?.();
      },
      { replace: true },
    );
  write("last", () => write("first", () => t.deepEqual(readdirSync(path("makers")), [".adapter.1.partial", ".adapter.partial"])));
  t.is(readFileSync(join(target, "a.txt"), "utf8"), "last");
  mkdirSync(path("makers", "thesis"));
  symlinkSync("thesis", path("makers", ".adapter.partial"));
  writeFileSync(path("makers", "thesis", "a.txt"), "three years");
  write("again");
  t.is(readFileSync(path("makers", "thesis", "a.txt"), "utf8"), "three years");
  renameSync(path("makers", ".adapter.partial"), path("makers", "link"));
  chmodSync(target, 0o700);
  write("mode");
  t.deepEqual(readdirSync(path("makers")), ["adapter", "link", "thesis"]);
});
