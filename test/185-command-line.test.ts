/** What the command line says of itself, and answers to the mistakes of those who begin. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "ava";
import { main, usmLite, usmLiteHere } from "./command_line.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const root = join(dirname(main), "..", "..", "..");
const folder = temporaryFolder("command-line");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);
const model = writeTinyModel(path("model"));
const manifest = writeTinyCorpus(path("corpus"), 2);
const silent = path("silent.jsonl");
writeFileSync(silent, JSON.stringify({ audio_filepath: join("corpus", "clip0.wav"), duration: 1.5, text: "" }));

const commandsOf = (help: string): string[] =>
  [...(help.split("\nCommands:\n")[1] ?? "").matchAll(/^ {2}([a-z]+)/gm)].flatMap(([, name]) => (name && name !== "help" ? [name] : []));

/** The help of every command, by its name. */
async function everyHelp(...command: string[]): Promise<[string, string][]> {
  const { status, stdout } = await usmLiteHere(...command, "--help");
  const inner = await Promise.all(commandsOf(stdout).map((name) => everyHelp(...command, name)));
  return [[command.join(" "), status === 0 ? stdout : ""], ...inner.flat()];
}

test("every help fits in 80 columns, and documented command lines use options that there are", async (t) => {
  const helps = new Map(await everyHelp());
  t.true(helps.size > 15);
  for (const [command, help] of helps) {
    t.regex(help, /^Usage: usm-lite/, command);
    for (const line of help.split("\n")) t.true(line.length <= 80, `${command}: ${line}`);
  }
  const pages = [join(root, "README.md"), ...readdirSync(join(root, "docs")).map((name) => join(root, "docs", name))];
  let options = 0;
  for (const page of pages.filter((name) => name.endsWith(".md"))) {
    const text = readFileSync(page, "utf8").replaceAll("\\\n", " ");
    for (const [line, words = ""] of text.matchAll(/^(?:npx )?usm-lite ([a-z][^\n#]*)/gm)) {
      const [command = "", inner = ""] = words.split(" ");
      const help = helps.get(`${command} ${inner}`) ?? helps.get(command);
      if (!help || words.includes("|status|")) continue;
      for (const [option] of words.matchAll(/--[a-z-]+/g)) {
        options++;
        t.regex(help, new RegExp(`${option}(?![a-z-])`), `${page}: ${line}`);
      }
    }
  }
  t.true(options > 50, String(options));
});

test("mistakes are answered with what would be right", async (t) => {
  writeFileSync(path("round.yaml"), "stages: [{modifiers: [{type: round-to-nearest, spec: int8}]}]");
  writeFileSync(path("solve.yaml"), "stages: [{modifiers: [{type: gptq, spec: int8}]}]");
  const untold = writeTinyModel(path("untold"), { languageModel: false });
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) rmSync(join(untold, name));
  writeFileSync(path("train.json"), JSON.stringify({ model: {}, data: { train: ["silent.jsonl"] }, epochs: 1 }));
  const compress = ["compress", "--model", model, "--recipe", path("round.yaml"), "--out", path("packed")];
  const cases: [string[], number, RegExp][] = [
    [
      ["evaluate", "--model", model, "--data", manifest, "--transcripts", folder.path],
      1,
      /is a folder; name the file to write \[FILE_UNWRITABLE\]/,
    ],
    [["tune", "--model", model, "--data", silent], 1, /no utterance of .*silent\.jsonl has words in its transcript.*\[BAD_MANIFEST\]/],
    [
      ["tune", "--model", writeTinyModel(path("tuned")), "--data", manifest, "--text", manifest],
      1,
      /has no transcript that is not in .*\[BAD_MANIFEST\]/,
    ],
    [["train", "--config", path("train.json"), "--out", path("run")], 1, /silent\.jsonl:1: its transcript is empty.*\[BAD_MANIFEST\]/],
    [
      ["train", "--config", path("none.yaml"), "--out", path("run")],
      1,
      /none\.yaml does not exist; name a YAML file, such as training\/default\.yaml/,
    ],
    [
      ["manifest", "--corpus", "kaldi", "--out", path("m"), path("none")],
      1,
      /none does not exist; name the folder that the corpus unpacks to/,
    ],
    [
      ["manifest", "--corpus", "kaldi", "--out", path("m"), silent],
      1,
      /silent\.jsonl is a file; name the folder that the corpus unpacks to/,
    ],
    [[...compress, "--data", path("none.jsonl")], 1, /none\.jsonl does not exist; name a manifest/],
    [["compress", "--model", untold, "--recipe", path("solve.yaml"), "--dry-run"], 1, /untold has no tokenizer\.json.*\[BAD_TOKENIZER\]/],
    [["pull", "org/model", "--endpoint", "hub"], 2, /endpoint "hub" is no address; it begins with https:\/\/ or http:\/\//],
    [["pull", "org/model", "--endpoint", "ftp://hub"], 2, /endpoint "ftp:\/\/hub" is no address/],
    [
      ["batch", "status", "--redis", "http://127.0.0.1"],
      2,
      /http:\/\/127\.0\.0\.1 is no address of Redis; it begins with redis:\/\/ or rediss:\/\//,
    ],
    [
      ["batch", "status", "--redis", path("none.sock")],
      1,
      /no Redis answers at .*none\.sock: .*[^.]; --redis or REDIS_URL says where it is/,
    ],
    [["serve", "--port", "65536"], 2, /--port 65536: must be a whole number from 0 to 65535 \[INVALID_ARGUMENT\]/],
    [["serve", "--metrics-port", ""], 2, /--metrics-port : must be a whole number from 0 to 65535 \[INVALID_ARGUMENT\]/],
  ];
  await Promise.all(
    cases.map(async ([args, status, message], index) => {
      const result = await (index === 0 || args[0] === "batch" ? usmLite : usmLiteHere)(...args);
      t.deepEqual([result.status, result.stdout], [status, ""], `${args.join(" ")}: ${result.stderr}`);
      t.regex(result.stderr, message);
      t.is(result.stderr.trimEnd().split("\n").length, 1, result.stderr);
    }),
  );
  t.false(readdirSync(folder.path).includes("packed"));
});

test("scripts beside the command line end with one line, too", (t) => {
  const run = (script: string, ...args: string[]) => spawnSync(process.execPath, [join(root, script), ...args], { encoding: "utf8" });
  const text = ["--out", path("lm"), "--text", folder.path];
  const cases: [ReturnType<typeof run>, number, RegExp][] = [
    [run("training/language_model.js", "--help"), 2, /^Unknown option '--help'; the head of the script says .* \[INVALID_ARGUMENT\]\n$/],
    [run("training/language_model.js", ...text, "--transcripts", "none.jsonl"), 1, /^none\.jsonl does not exist; .*\[FILE_NOT_FOUND\]\n$/],
    [run("training/pytorch/unpack.js", path("none"), path("float")), 1, /^model folder .*none does not exist; .*\[FILE_NOT_FOUND\]\n$/],
    [run("dist/bench/binary_transducer.js"), 2, /^name --train, --test and --out \[INVALID_ARGUMENT\]\n$/],
  ];
  for (const [{ status, stdout, stderr }, expected, message] of cases) {
    t.deepEqual([status, stdout], [expected, ""], stderr);
    t.regex(stderr, message);
  }
});
