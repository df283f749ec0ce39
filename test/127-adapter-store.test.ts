import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { AdapterBase, AdapterStore, loadModel, memoryStatistics, writeAdapter, type Adapter } from "../lib/index.js";
import { randomAdapter } from "./adapters.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("adapter-store");
test.after.always(folder.clean);
const base = new AdapterBase(loadModel(writeTinyModel(join(folder.path, "model"), { languageModel: false })));
const about = { dropout: 0, training: {} };
const valueOf = ({ factors }: Adapter): number => [...factors.values()][0]?.down.toArray()[0] as number;

function storeFolder(name: string, speakers: readonly string[]): string {
  const path = join(folder.path, name);
  mkdirSync(path);
  speakers.forEach((speaker, index) => {
    using adapter = randomAdapter(base, 2, index + 1, "q_proj");
    writeAdapter(join(path, speaker), adapter, base, about);
  });
  return path;
}

test.serial("adapters are read when asked for; the least recently used go", (t) => {
  const store = new AdapterStore(storeFolder("many", ["a", "b", "c", "d"]), base, 2);
  t.deepEqual([store.speakers(), store.resident], [["a", "b", "c", "d"], 0]);
  const take = (speaker: string): Adapter => {
    const { adapter, release } = store.lease(speaker);
    release();
    release();
    return adapter;
  };
  const [a, b] = [take("a"), take("b")];
  t.is(take("a"), a, "it is still there");
  const one = store.residentBytes / 2;
  take("c");
  t.deepEqual([store.resident, store.residentBytes], [2, 2 * one]);
  t.true(
    [...b.factors.values()].every(({ down, up }) => down.released && up.released),
    "b was used least recently",
  );
  t.is(take("a"), a);
  t.not(take("b"), b);
  const before = memoryStatistics().bytesInUse;
  for (let round = 0; round < 5; round++) for (const speaker of ["a", "b", "c", "d"]) take(speaker);
  t.is(memoryStatistics().bytesInUse, before, "memory does not grow");
  store.dispose();
  t.is(store.resident, 0);
  t.is(memoryStatistics().bytesInUse, before - 2 * one);
});

test.serial("a folder of adapters must be one, and an adapter replaces nothing else", (t) => {
  const path = storeFolder("mixed", ["a"]);
  const file = join(path, "a", "notes.txt");
  writeFileSync(file, "mine");
  t.throws(() => new AdapterStore(file, base), { code: "FILE_UNREADABLE", message: /notes\.txt is a file; name a folder/ });
  using adapter = randomAdapter(base, 3, 1, "q_proj");
  t.throws(() => writeAdapter(join(path, "a"), adapter, base, about), {
    code: "INVALID_ARGUMENT",
    message: /holds notes\.txt, which an adapter would replace/,
  });
  t.throws(() => writeAdapter(file, adapter, base, about), { code: "INVALID_ARGUMENT", message: /notes\.txt is a file/ });
  t.is(readFileSync(file, "utf8"), "mine");
  const store = new AdapterStore(storeFolder("passing", ["a"]), base);
  rmSync(store.folder, { recursive: true });
  t.throws(() => store.speakers(), { code: "FILE_NOT_FOUND", message: /passing does not exist/ });
});

test.serial("who uses an adapter keeps it, though it is exchanged, removed or pushed out", (t) => {
  const path = storeFolder("changing", ["a", "b", "c"]);
  const store = new AdapterStore(path, base, 1);
  const old = store.lease("a");
  const value = valueOf(old.adapter);
  using other = randomAdapter(base, 3, 9, "q_proj");
  writeAdapter(join(path, "a"), other, base, about);
  const fresh = store.lease("a");
  t.deepEqual([valueOf(old.adapter), valueOf(fresh.adapter)], [value, valueOf(other)]);
  const b = store.lease("b");
  const c = store.lease("c");
  t.is(store.resident, 1);
  for (const { adapter } of [old, fresh, b, c]) t.true(Number.isFinite(valueOf(adapter)));
  rmSync(join(path, "a"), { recursive: true });
  t.throws(() => store.lease("a"), { code: "UNKNOWN_SPEAKER" });
  for (const lease of [old, fresh, b]) {
    lease.release();
    t.throws(() => valueOf(lease.adapter), { code: "TENSOR_RELEASED" });
  }
  store.dispose();
  t.true(Number.isFinite(valueOf(c.adapter)));
  c.release();
  t.throws(() => valueOf(c.adapter), { code: "TENSOR_RELEASED" });
});

test.serial("names that are no speakers, and folders that are no adapters", (t) => {
  const path = storeFolder("strict", ["good", "half", ".hidden"]);
  rmSync(join(path, "half", "adapter_model.safetensors"));
  writeFileSync(join(path, "file"), "");
  mkdirSync(join(path, "folders"));
  cpSync(join(path, "good", "adapter_config.json"), join(path, "folders", "adapter_config.json"));
  mkdirSync(join(path, "folders", "adapter_model.safetensors"));
  symlinkSync("good", join(path, "alias"));
  const store = new AdapterStore(path, base);
  for (const name of [
    "",
    ".",
    "..",
    "../strict/good",
    "good/../good",
    "/etc",
    "a b",
    ".hidden",
    "good\0",
    "good\n",
    "-x",
    "a".repeat(129),
    "ü",
  ]) {
    t.throws(() => store.lease(name), { code: "INVALID_ARGUMENT", message: /no name of a speaker/ }, JSON.stringify(name));
  }
  for (const name of ["nobody", "half", "file", "folders", "GOOD", "good."])
    t.throws(() => store.lease(name), { code: "UNKNOWN_SPEAKER" }, name);
  t.deepEqual(valueOf(store.lease("alias").adapter), valueOf(store.lease("good").adapter));
  writeFileSync(join(path, "good", "adapter_config.json"), "{}");
  t.throws(() => store.lease("good"), { code: "BAD_ADAPTER", message: /peft_type/ });
  t.throws(() => new AdapterStore(join(path, "file", "none"), base), { code: "FILE_NOT_FOUND" });
});
