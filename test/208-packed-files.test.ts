/** What the package says to those who have installed it names files that they have. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "ava";
import { readTrainingConfig } from "../lib/train/training_config.js";
import { main, usmLiteHere } from "./command_line.js";

const root = join(dirname(main), "..", "..", "..");

test("the configuration that is shown to those who have none is packed", (t) => {
  const { message } = t.throws(() => readTrainingConfig("none.yaml")) as Error;
  const [named = ""] = /[\w/]+\/\w+\.yaml/.exec(message) ?? [];
  t.true(existsSync(join(root, named)), message);
  const { files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { files: string[] };
  t.true(
    files.some((packed) => named === packed || named.startsWith(`${packed}/`)),
    named,
  );
});

test("the help of pull says where models lie and how the hub learns who asks", async (t) => {
  const { stdout } = await usmLiteHere("pull", "--help");
  for (const name of ["~/.cache/usm-lite", "USMLITE_CACHE", "HF_TOKEN", "HF_ENDPOINT"]) t.true(stdout.includes(name), name);
});
