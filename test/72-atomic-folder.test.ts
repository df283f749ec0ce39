import fs, { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import test from "ava";
import { checkReplaceable, writeFolderAtomically } from "../lib/checkpoint/atomic_folder.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("atomic-folder");
test.after.always(folder.clean);
const write = (text: string) => (temporary: string) => writeFileSync(join(temporary, "a.txt"), text);

/** Makes the renaming with this number fail, as a full or failing disk would. */
function withFailingRename(number: number, body: () => void): void {
  const { renameSync } = fs;
  let count = 0;
  fs.renameSync = (from, to) => {
    if (++count === number) throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC", syscall: "rename" });
    renameSync(from, to);
  };
  syncBuiltinESMExports();
  try {
    body();
  } finally {
    fs.renameSync = renameSync;
    syncBuiltinESMExports();
  }
}

test.serial("a folder appears whole, and is exchanged only when asked", (t) => {
  const parent = join(folder.path, "plain");
  const target = join(parent, "deep", "model");
  writeFolderAtomically(target, write("one"));
  t.throws(() => writeFolderAtomically(target, write("two")), { code: "INVALID_ARGUMENT", message: /model exists/ });
  t.is(readFileSync(join(target, "a.txt"), "utf8"), "one");
  writeFolderAtomically(target, (temporary) => writeFileSync(join(temporary, "b.txt"), "two"), { replace: true });
  t.deepEqual(readdirSync(target), ["b.txt"]);
  t.deepEqual(readdirSync(join(parent, "deep")), ["model"]);
});

test.serial("only a folder without anything else in it may be exchanged", (t) => {
  const target = join(folder.path, "precious");
  const check = (): void => checkReplaceable(target, ["a.txt", "b.txt"], "an adapter");
  t.notThrows(check); // nothing is there
  mkdirSync(target);
  t.notThrows(check);
  write("one")(target);
  t.notThrows(check);
  writeFileSync(join(target, "thesis.txt"), "three years");
  t.throws(check, { code: "INVALID_ARGUMENT", message: /precious holds thesis\.txt, which an adapter would replace; name a folder/ });
  const file = join(target, "a.txt");
  t.throws(() => checkReplaceable(file, ["a.txt"], "an adapter"), {
    code: "INVALID_ARGUMENT",
    message: /a\.txt is a file, .*; name a folder/,
  });
});

test.serial("where nothing can be made, that is said", (t) => {
  t.throws(() => writeFolderAtomically("/proc/model", write("one")), {
    code: "FILE_UNWRITABLE",
    message: /folder \/proc\/model cannot be made/,
  });
});

test.serial("a failure while filling leaves what was there", (t) => {
  const parent = join(folder.path, "filling");
  const target = join(parent, "model");
  writeFolderAtomically(target, write("one"));
  const fail = (temporary: string): void => {
    write("two")(temporary);
    throw new RangeError("the weights are gone");
  };
  t.throws(() => writeFolderAtomically(target, fail, { replace: true }), { instanceOf: RangeError });
  t.throws(() => writeFolderAtomically(join(parent, "other"), fail), { instanceOf: RangeError });
  t.is(readFileSync(join(target, "a.txt"), "utf8"), "one");
  t.deepEqual(readdirSync(parent), ["model"]);
});

test.serial("what the system refuses while filling is told as such", (t) => {
  const target = join(folder.path, "refused", "model");
  const copy = (temporary: string): void => fs.copyFileSync(join(folder.path, "absent"), join(temporary, "a.txt"));
  t.throws(() => writeFolderAtomically(target, copy), { code: "FILE_UNWRITABLE", message: /refused\/model cannot be made: ENOENT.*copyfile/ });
  t.deepEqual(readdirSync(join(folder.path, "refused")), []);
});

test.serial("a failure of either renaming leaves what was there", (t) => {
  for (const number of [1, 2]) {
    const parent = join(folder.path, `renaming${number}`);
    const target = join(parent, "model");
    mkdirSync(target, { recursive: true });
    write("one")(target);
    withFailingRename(number, () => {
      t.throws(() => writeFolderAtomically(target, write("two"), { replace: true }), {
        code: "FILE_UNWRITABLE",
        message: /no space left on device/,
      });
    });
    t.is(readFileSync(join(target, "a.txt"), "utf8"), "one");
    t.deepEqual(readdirSync(parent), ["model"]);
  }
});
