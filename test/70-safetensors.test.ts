import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { readSafetensors } from "../lib/checkpoint/safetensors.js";
import { writeSafetensors } from "../lib/checkpoint/safetensors_writer.js";
import { Tensor, UsmLiteError } from "../lib/operations.js";
import { randomValues } from "./gradient.js";
import { sharedFolder } from "./shared.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-safetensors-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const newPath = (): string => join(folder, `${files++}.safetensors`);

/** A file of the given header and data; `length` overrides what the prefix says. */
function fileOf(header: unknown, data = new Uint8Array(0), length?: bigint): string {
  const text = header instanceof Buffer ? header : Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(text.length));
  const path = newPath();
  writeFileSync(path, Buffer.concat([prefix, text, data]));
  return path;
}

const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

test("what is written is read back", (t) => {
  const path = newPath();
  const weight = Tensor.from(randomValues(6, 1), [2, 3]);
  writeSafetensors(
    path,
    [
      ["weight", weight],
      ["codes", Tensor.from(Uint8Array.of(1, 2, 255))],
      ["scalar", Tensor.from(Int32Array.of(-5), [])],
      ["empty", Tensor.zeros([0, 4])],
      ["__proto__", { dtype: "BF16", shape: [2], data: Uint16Array.of(0x3f80, 0xc000) }],
      ["0", { dtype: "I64", shape: [1], data: BigInt64Array.of(-7n) }],
    ],
    { format: "pt", note: "é" },
  );
  using file = readSafetensors(path);
  t.deepEqual({ ...file.metadata }, { format: "pt", note: "é" });
  t.deepEqual(file.names(), ["0", "empty", "weight", "scalar", "__proto__", "codes"]);
  t.deepEqual(file.shape("weight"), [2, 3]);
  t.deepEqual(file.tensor("weight").toArray(), weight.toArray());
  t.deepEqual([...file.bytes("codes")], [1, 2, 255]);
  t.is(file.tensor("codes").dtype, "uint8");
  t.deepEqual(file.tensor("scalar").shape, []);
  t.deepEqual([...file.tensor("scalar").toInt32Array()], [-5]);
  t.is(file.tensor("empty").size, 0);
  t.deepEqual([...file.tensor("__proto__").toArray()], [1, -2]);
  t.deepEqual([...file.tensor("0").toInt32Array()], [-7]);
  t.throws(() => file.tensor("toString"), { code: "BAD_CHECKPOINT", message: /has no tensor/ });
  file.close();
  t.throws(() => file.bytes("codes"), { code: "INVALID_ARGUMENT" });
});

test("half precision becomes float32 exactly, integers are checked", (t) => {
  const path = newPath();
  const halves = [0x0000, 0x8000, 0x3c00, 0xc500, 0x0001, 0x83ff, 0x7bff, 0x7c00, 0xfc00, 0x7e00];
  writeSafetensors(path, [
    ["half", { dtype: "F16", shape: [10], data: Uint16Array.from(halves) }],
    ["double", { dtype: "F64", shape: [1], data: Float64Array.of(0.1) }],
    ["large", { dtype: "I64", shape: [1], data: BigInt64Array.of(2n ** 31n) }],
    ["float8", { dtype: "F8_E4M3", shape: [1], data: Uint8Array.of(1) }],
  ]);
  using file = readSafetensors(path);
  t.deepEqual([...file.tensor("half").toArray()], [0, -0, 1, -5, 2 ** -24, -1023 * 2 ** -24, 65504, Infinity, -Infinity, NaN]);
  t.is(file.tensor("double").toArray()[0], Math.fround(0.1));
  t.throws(() => file.tensor("large"), { code: "BAD_CHECKPOINT", message: /2147483648 does not fit in 32 bits/ });
  t.throws(() => file.tensor("float8"), { code: "BAD_CHECKPOINT", message: /F8_E4M3, which cannot be converted/ });
});

test("a failed write leaves the old file and nothing else", (t) => {
  const inner = mkdtempSync(join(folder, "atomic-"));
  const path = join(inner, "model.safetensors");
  writeSafetensors(path, [["a", Tensor.from([1])]]);
  const released = Tensor.from([2]);
  released.dispose();
  t.throws(() => writeSafetensors(path, [["b", released]]), { code: "TENSOR_RELEASED" });
  t.throws(() => writeSafetensors(path, [["b", { dtype: "F32", shape: [2], data: new Uint8Array(3) }]]), {
    code: "INVALID_ARGUMENT",
  });
  t.throws(
    () =>
      writeSafetensors(path, [
        ["a", Tensor.from([1])],
        ["a", Tensor.from([1])],
      ]),
    { code: "INVALID_ARGUMENT" },
  );
  t.throws(() => writeSafetensors(join(inner, "none", "m"), []), { code: "FILE_UNWRITABLE" });
  t.deepEqual(readdirSync(inner), ["model.safetensors"]);
  using file = readSafetensors(path);
  t.deepEqual(file.names(), ["a"]);
});

const hostileFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "hostile");
const hostile = JSON.parse(readFileSync(join(hostileFolder, "expected.json"), "utf8")) as Record<string, string>;

/** Hostile files too long to keep. */
const longHostile: Record<string, [path: () => string, message: RegExp]> = {
  "a header of more than 100 MB": [
    () => {
      const path = fileOf("", undefined, 100_000_001n);
      truncateSync(path, 200_000_000);
      return path;
    },
    /in 100 MB/,
  ],
  "a deeply nested header": [() => fileOf(`{"a":${"[".repeat(1e5)}${"]".repeat(1e5)}}`), /more than 200 deep/],
};

test("every file of the hostile folder has an expectation", (t) => {
  const files = readdirSync(hostileFolder).filter((name) => name.endsWith(".safetensors"));
  t.true(files.length >= 29);
  t.deepEqual(files.sort(), Object.keys(hostile).sort());
});

const attacks: [name: string, path: () => string, message: RegExp][] = [
  ...Object.entries(hostile).map(
    ([name, message]) => [name, () => join(hostileFolder, name), new RegExp(message)] as [string, () => string, RegExp],
  ),
  ...Object.entries(longHostile).map(([name, [path, message]]) => [name, path, message] as [string, () => string, RegExp]),
];

for (const [name, path, message] of attacks) {
  test(`a hostile file: ${name}`, (t) => {
    const file = path();
    const error = t.throws(() => readSafetensors(file), { instanceOf: UsmLiteError, code: "BAD_CHECKPOINT", message });
    t.true(error?.message.includes(file), "names the file");
    t.true((error?.message.length ?? 0) < 1000);
  });
}

test("a missing file and a folder are coded errors", (t) => {
  t.throws(() => readSafetensors(join(folder, "missing")), {
    code: "FILE_NOT_FOUND",
    message: /missing does not exist/,
  });
  t.throws(() => readSafetensors(folder), { code: "FILE_UNREADABLE", message: /is not a regular file/ });
});

test("a file that shrinks after it was opened is a coded error", (t) => {
  const path = fileOf({ a: f32(0, 4) }, new Uint8Array(4));
  using file = readSafetensors(path);
  truncateSync(path, 20);
  t.throws(() => file.tensor("a"), { code: "BAD_CHECKPOINT", message: /became shorter/ });
});

test("mutated files are read or refused, never anything else", (t) => {
  const path = newPath();
  writeSafetensors(
    path,
    [
      ["weight", Tensor.from([1, 2, 3, 4], [2, 2])],
      ["bias", Tensor.from(Uint8Array.of(1, 2))],
    ],
    { a: "b" },
  );
  const original = readFileSync(path);
  const mutant = newPath();
  let refused = 0;
  const noise = randomValues(12_000, 7).map((value) => (value + 1) / 2);
  for (let trial = 0; trial < 3000; trial++) {
    const [how, where, what, extra] = noise.subarray(trial * 4, trial * 4 + 4) as unknown as [number, number, number, number];
    const at = Math.floor(where * original.length);
    let bytes = Buffer.from(original);
    if (how < 0.6) bytes[at] = Math.floor(what * 256);
    else if (how < 0.7) bytes = bytes.subarray(0, at);
    else if (how < 0.85) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + Math.floor(extra * 4))]);
    else
      bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from('"[]{},:0123-e.\\'[Math.floor(what * 15)] as string), bytes.subarray(at)]);
    writeFileSync(mutant, bytes);
    try {
      using file = readSafetensors(mutant);
      for (const name of file.names()) file.values(name);
    } catch (error) {
      if (!(error instanceof UsmLiteError) || error.code !== "BAD_CHECKPOINT") t.fail(`trial ${trial}: ${String(error)}`);
      refused++;
    }
  }
  t.true(refused > 1000 && refused < 3000);
});

const shared = sharedFolder();
(shared ? test : test.skip)("files of the reference library are read, and rewritten bit for bit", (t) => {
  for (const family of ["lasr_ctc", "parakeet_ctc", "whisper"]) {
    for (const name of ["model", "expected"]) {
      const path = join(shared as string, "reference", family, `${name}.safetensors`);
      using file = readSafetensors(path);
      const copy = newPath();
      writeSafetensors(
        copy,
        file.names().map((tensor) => [tensor, { dtype: file.dtype(tensor), shape: file.shape(tensor), data: file.bytes(tensor) }]),
        file.metadata,
      );
      t.true(readFileSync(copy).equals(readFileSync(path)), `${family}/${name}`);
    }
  }
});
