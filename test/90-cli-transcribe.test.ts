import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { formatTranscript, hasGpu, loadModel, Recognizer, Transcriber } from "../lib/index.js";
import { main, usmLite, usmLiteHere } from "./command_line.js";
import { temporaryFolder, tones, writeTinyModel, writeWav } from "./tiny_model.js";
import { wavFile } from "./wav_writer.js";

const folder = temporaryFolder("cli-transcribe");
test.after.always(folder.clean);
const model = writeTinyModel(join(folder.path, "model"));
const first = writeWav(join(folder.path, "first.wav"), tones(1.5, 1));
const second = writeWav(join(folder.path, "second.wav"), tones(2, 2));
const recognizer = new Recognizer(loadModel(model));
const read = (path: string): Float32Array => {
  const bytes = readFileSync(path);
  return Float32Array.from({ length: (bytes.length - 44) / 2 }, (_, i) => bytes.readInt16LE(44 + 2 * i) / 32768);
};
const expected = recognizer.transcribe(read(first));
const transcribe = (...args: string[]) => usmLiteHere("transcribe", "--model", model, ...args);
const transcribeAlone = (...args: string[]) => usmLite("transcribe", "--model", model, ...args);

test("each format goes to standard output", async (t) => {
  for (const format of ["text", "json", "verbose_json", "srt", "vtt"] as const) {
    const { status, stdout, stderr } = await (format === "text" ? transcribeAlone : transcribe)("--format", format, first);
    t.deepEqual([status, stderr], [0, ""]);
    t.is(stdout.trimEnd(), formatTranscript(expected, format).trimEnd());
    t.true(stdout.endsWith("\n"));
    if (format === "verbose_json") {
      t.like(JSON.parse(stdout), { duration: 1.5, text: expected.text });
      t.is((JSON.parse(stdout) as { words: unknown[] }).words.length, expected.words.length);
    }
  }
});

test("several files are named, and a bad one does not keep the others from being transcribed", async (t) => {
  const empty = join(folder.path, "empty.wav");
  const truncated = join(folder.path, "truncated.wav");
  const text = join(folder.path, "text.wav");
  const missing = join(folder.path, "missing.wav");
  const tenHours = join(folder.path, "ten_hours.wav");
  writeFileSync(empty, "");
  writeFileSync(truncated, readFileSync(first).subarray(0, 30));
  writeFileSync(text, "these are words, not sound\n".repeat(20));
  writeFileSync(tenHours, wavFile([[]], { sampleRate: 16000, coding: "u8", dataSize: 36_000 * 16_000 }).subarray(0, 44));
  truncateSync(tenHours, 44 + 36_000 * 16_000); // a hole in the file: no disk is used
  const { status, stdout, stderr } = await transcribeAlone(first, empty, truncated, text, missing, folder.path, tenHours, second);
  t.is(status, 1);
  t.is(stdout, `${first}: ${expected.text}\n${second}: ${recognizer.transcribe(read(second)).text}\n`);
  const lines = stderr.trimEnd().split("\n");
  t.is(lines.length, 6, stderr);
  for (const [index, [file, code]] of [
    [empty, "BAD_AUDIO"],
    [truncated, "BAD_AUDIO"],
    [text, "BAD_AUDIO"],
    [missing, "FILE_NOT_FOUND"],
    [folder.path, "FILE_UNREADABLE"],
    [tenHours, "AUDIO_TOO_LONG"],
  ].entries()) {
    t.true(
      lines[index]?.startsWith("usm-lite: ") && lines[index]?.includes(file as string) && lines[index]?.endsWith(`[${code}]`),
      lines[index],
    );
  }
});

test("many files come in the order in which they are named, whichever is done first", async (t) => {
  const files = Array.from({ length: 11 }, (_, index) => writeWav(join(folder.path, `${index}.wav`), tones(index === 0 ? 30 : 0.5, index)));
  const { status, stdout, stderr } = await transcribe(...files);
  t.deepEqual([status, stderr], [0, ""]);
  t.is(stdout, files.map((file) => `${file}: ${recognizer.transcribe(read(file)).text}\n`).join(""));
});

test("--output-dir writes a file for each", async (t) => {
  const out = join(folder.path, "subtitles", "here");
  const { status, stdout } = await transcribe("--format", "srt", "--output-dir", out, first, second);
  t.deepEqual([status, stdout], [0, ""]);
  t.deepEqual(readdirSync(out).sort(), ["first.srt", "second.srt"]);
  t.is(readFileSync(join(out, "first.srt"), "utf8").trimEnd(), formatTranscript(expected, "srt").trimEnd());
});

test("two files that would write the same transcript are refused before anything is written", async (t) => {
  mkdirSync(join(folder.path, "other"));
  const same = writeWav(join(folder.path, "other", "first.wav"), tones(1, 3));
  const out = join(folder.path, "clash");
  const { status, stderr } = await transcribe("--output-dir", out, first, same);
  t.is(status, 2);
  t.regex(stderr, /first\.wav and .*other\/first\.wav would both write .*first\.txt.*\[INVALID_ARGUMENT\]/);
  t.false(existsSync(out));
  t.like(await transcribe("--output-dir", first, second), { status: 1 });
});

test("silence shorter than a frame is no error and no text", async (t) => {
  const silence = writeWav(join(folder.path, "silence.wav"), new Float32Array(100));
  t.like(await transcribe(silence), { status: 0, stdout: "\n" });
  t.is((await transcribe("--format", "vtt", silence)).stdout, "WEBVTT\n");
});

test("decoders and their width can be chosen", async (t) => {
  const greedy = new Recognizer(loadModel(model), { decoder: "greedy" }).transcribe(read(first));
  t.is((await transcribe("--decoder", "greedy", first)).stdout, `${greedy.text}\n`);
  const beam = new Recognizer(loadModel(model), { beamWidth: 2 }).transcribe(read(first));
  t.is((await transcribe("--beam", "2", "--device", "cpu", first)).stdout, `${beam.text}\n`);
});

test("phrases that are likely are heard", async (t) => {
  await using transcriber = await Transcriber.load({ model });
  const { text } = await transcriber.transcribe(first, { hotwords: ["THE CAT", "SAT"] });
  t.not(text, expected.text);
  t.is((await transcribe("--keyword", "THE CAT", "--keyword", "SAT", first)).stdout, `${text}\n`);
  for (const phrase of ["42", ""]) {
    const wrong = await transcribe("--keyword", "THE CAT", "--keyword", phrase, first, second); // one misuse, not a failure of each file
    t.deepEqual([wrong.status, wrong.stdout], [2, ""]);
    t.is(wrong.stderr, `usm-lite: the keyword "${phrase}" has no letters A-Z [INVALID_ARGUMENT]\n`);
  }
});

test("longer audio than --max-hours is refused", async (t) => {
  const { status, stdout, stderr } = await transcribe("--max-hours", "0.0005", first, second); // 1.8 s
  t.is(status, 1);
  t.is(stdout, `${first}: ${expected.text}\n`);
  t.regex(stderr, /second\.wav holds 2\.0 s of audio, at most 1\.8 s .*--max-hours.*\[AUDIO_TOO_LONG\]\n$/);
});

test("misuse ends with status 2 and says what would be right", async (t) => {
  const cases: [string[], RegExp][] = [
    [["transcribe"], /missing required argument 'file'/],
    [["transcribe", "--format", "docx", first], /Allowed choices are text, json, verbose_json, srt, vtt/],
    [["transcribe", "--decoder", "magic", first], /Allowed choices are greedy, beam/],
    [["transcribe", "--beam", "0", first], /--beam 0: must be a whole number from 1.*\[INVALID_ARGUMENT\]/],
    [["transcribe", "--max-hours", "none", first], /--max-hours none: must be a number above 0.*\[INVALID_ARGUMENT\]/],
    [["transcribe", "--device", "tpu", first], /--device tpu is unknown; choose auto, cpu, cuda or cuda:N/],
    [["transcribe", "--format", "srt", first, second], /--format srt with 2 files needs --output-dir/],
    [["transcribe", "--colour", first], /unknown option '--colour'/],
    [["transcribed", first], /unknown command 'transcribed'.*transcribe/s],
    [[], /Usage: usm-lite/],
  ];
  await Promise.all(
    cases.map(async ([args, message], index) => {
      const { status, stdout, stderr } = await (index === 0 ? usmLite : usmLiteHere)(...args);
      t.is(status, 2, args.join(" "));
      t.is(stdout, "");
      t.regex(stderr, message);
    }),
  );
});

test.serial("a setting of the environment that cannot be is no stack trace", async (t) => {
  process.env["USMLITE_ISA"] = "neon";
  try {
    const { status, stdout, stderr } = await transcribeAlone(first);
    t.deepEqual([status, stdout], [2, ""]);
    t.regex(stderr, /^usm-lite: USMLITE_ISA: instruction set "neon" is not available .*choose one of reference.* \[INVALID_ARGUMENT\]\n$/);
  } finally {
    delete process.env["USMLITE_ISA"];
  }
});

test("a device or model that is not there ends with status 1", async (t) => {
  if (!hasGpu()) {
    const { status, stdout, stderr } = await transcribe("--device", "cuda", first);
    t.deepEqual([status, stdout], [1, ""]);
    t.regex(stderr, /\[(NO_GPU|DRIVER_TOO_OLD)\]/);
  }
  const { status, stderr } = await usmLiteHere("transcribe", "--model", join(folder.path, "none"), first);
  t.is(status, 1);
  t.regex(stderr, /model folder .*none does not exist.*\[FILE_NOT_FOUND\]/);
});

test("output that nobody reads is no error, and a full disk no stack trace", async (t) => {
  const shell = (command: string): Promise<{ status: number; stderr: string }> =>
    new Promise((done) => {
      execFile("sh", ["-c", command, process.execPath, main], (error, _, stderr) =>
        done({ status: error ? Number(error.code) : 0, stderr }),
      );
    });
  t.deepEqual(await shell('{ "$0" "$1" --help; echo $? >&2; } | true'), { status: 0, stderr: "0\n" });
  const full = await shell('"$0" "$1" --help > /dev/full');
  t.is(full.status, 1);
  t.regex(full.stderr, /^usm-lite: standard output cannot be written: ENOSPC.* \[FILE_UNWRITABLE\]\n$/);
});

test("help and version are no errors", async (t) => {
  const help = await usmLite("--help");
  t.is(help.status, 0);
  for (const command of ["transcribe", "evaluate", "compress", "train", "inspect", "forward"]) t.true(help.stdout.includes(command));
  t.like(await usmLiteHere("transcribe", "--help"), { status: 0, stderr: "" });
  t.regex((await usmLiteHere("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
});
