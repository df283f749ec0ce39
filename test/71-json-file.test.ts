import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { writeTextFile } from "../lib/checkpoint/atomic_file.js";
import { readJsonFile, writeJsonFile } from "../lib/checkpoint/json_file.js";
import { UsmLiteError } from "../lib/errors.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-json-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

test.serial("JSON files return what was written, and nothing else stays in the folder", (t) => {
  const path = join(folder, "config.json");
  writeJsonFile(path, { hidden_size: 64, names: ["a", "b"] });
  writeJsonFile(path, { hidden_size: 128, names: ['"', "\\"] });
  t.deepEqual(readJsonFile(path, "BAD_CONFIG"), { hidden_size: 128, names: ['"', "\\"] });
  t.is(readFileSync(path, "utf8").at(-1), "\n");
  t.deepEqual(readdirSync(folder), ["config.json"]);
  t.throws(() => writeTextFile(join(folder, "none", "a.txt"), "a"), { code: "FILE_UNWRITABLE", message: /none/ });
});

test("an error that quotes a file is not as long as the file", (t) => {
  const { message } = new UsmLiteError("BAD_CONFIG", `config.json: "${"x".repeat(1e6)}" is unknown`);
  t.regex(message, /^config\.json: "x+\.\.\.$/);
  t.true(message.length < 3000);
});

test.serial("files that are not one JSON object are errors with the caller's code and the file's name", (t) => {
  const path = join(folder, "bad.json");
  const refuse = (content: string | Uint8Array, message: RegExp): void => {
    writeFileSync(path, content);
    t.throws(() => readJsonFile(path, "BAD_CONFIG"), { code: "BAD_CONFIG", message }, String(content));
  };
  refuse("", /bad\.json is not valid JSON/);
  refuse('{"a": 1', /not valid JSON/);
  refuse("[1]", /must hold a JSON object \{...\}, not an array/);
  refuse("null", /must hold a JSON object/);
  refuse(`{"a": ${"[".repeat(5000)}${"]".repeat(5000)}}`, /bad\.json has objects or lists more than 200 deep/);
  refuse('{"a": {"b": 1, "c\\"": [{"b": 1}], "b" : 2}}', /key "b" twice/);
  refuse(Uint8Array.of(0x7b, 0xff, 0x7d), /not UTF-8/);
  t.throws(() => readJsonFile(join(folder, "missing.json"), "BAD_CONFIG"), { code: "FILE_NOT_FOUND" });
  t.throws(() => readJsonFile(folder, "BAD_CONFIG"), { code: "FILE_UNREADABLE" });
});
