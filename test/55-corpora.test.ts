import { rmSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { audioDuration, readCorpus, UsmLiteError, type CorpusName, type CorpusPart, type Utterance } from "../lib/index.js";
import { flac, wav, writeCorpus, writeLibrispeech, writeSpeechocean, zeros } from "./corpora.js";
import { temporaryFolder } from "./tiny_model.js";
import { wavFile } from "./wav_writer.js";

const folder = temporaryFolder("corpora");
test.after.always(folder.clean);
const corpus = (name: string, files: Parameters<typeof writeCorpus>[2]): string => writeCorpus(folder.path, name, files);
const librispeech = writeLibrispeech(folder.path);
const speechocean = writeSpeechocean(folder.path);

/** What {@link readCorpus} gives, with paths below `root`. */
async function read(name: CorpusName, root: string, part?: CorpusPart): Promise<Utterance[]> {
  const inRoot = (path: string): string => path.replace(`${root}/`, "");
  const utterances = await readCorpus(name, root, { part });
  return utterances.map((utterance) => ({ ...utterance, audioPath: inRoot(utterance.audioPath), source: inRoot(utterance.source) }));
}

test("LibriSpeech: one set, or the folder of all", async (t) => {
  const dataset = "librispeech";
  const train = await read("librispeech", librispeech, "train");
  t.deepEqual(
    train.map(({ text, speaker, duration }) => [speaker, text, duration]),
    [
      ["librispeech/103", "MISSUS RACHEL LYNDE'S", 0.1],
      ["librispeech/19", "NORTHANGER ABBEY", 0.5],
      ["librispeech/19", "THIS LITTLE WORK WAS FINISHED", 1.25],
    ],
  );
  const test = {
    audioPath: "61/70968/61-70968-0000.flac",
    duration: 0.2,
    text: "HE BEGAN",
    speaker: "librispeech/61",
    dataset,
    source: "61/70968/61-70968.trans.txt:1",
  };
  t.deepEqual(await read("librispeech", join(librispeech, "test-clean")), [test]);
  t.deepEqual(await read("librispeech", join(librispeech, "test-clean"), "test"), [test]);
  t.deepEqual(
    (await read("librispeech", join(librispeech, "train-clean-100"))).map(({ text }) => text),
    train.map(({ text }) => text),
  );
});

test("LJSpeech: the normalized text, quotation marks are text", async (t) => {
  const root = corpus("LJSpeech-1.1", {
    "metadata.csv": ['LJ001-0001|In 1465, "naive|In fourteen sixty-five, "naïve', "LJ001-0002|It's so.|It’s so.\r"],
    "wavs/LJ001-0001.wav": wav(22050, 22050),
    "wavs/LJ001-0002.wav": wav(11025, 22050),
  });
  const common = { speaker: "ljspeech/LJ", dataset: "ljspeech" };
  t.deepEqual(await read("ljspeech", root), [
    { ...common, audioPath: "wavs/LJ001-0001.wav", duration: 1, text: "IN FOURTEEN SIXTY FIVE NAIVE", source: "metadata.csv:1" },
    { ...common, audioPath: "wavs/LJ001-0002.wav", duration: 0.5, text: "IT'S SO", source: "metadata.csv:2" },
  ]);
});

test("speechocean762 and the Free Spoken Digit Dataset: by the official split", async (t) => {
  t.deepEqual(await read("speechocean762", speechocean, "train"), [
    {
      audioPath: "WAVE/SPEAKER0001/000010011.WAV",
      duration: 1,
      text: "WE CALL IT BEAR",
      speaker: "speechocean762/0001",
      dataset: "speechocean762",
      source: "train/text:1",
    },
  ]);
  t.deepEqual(
    (await read("speechocean762", speechocean, "test")).map(({ speaker }) => speaker),
    ["speechocean762/0003"],
  );

  const names = ["0_theo_0", "7_jackson_4", "7_jackson_5", "9_theo_49"];
  const digits = corpus("free-spoken-digit-dataset", {
    "README.md": ["recordings"],
    "recordings/.DS_Store": [""],
    ...Object.fromEntries(names.map((name) => [`recordings/${name}.wav`, wav(800, 8000)])),
  });
  const spoken = async (part: CorpusPart): Promise<unknown[]> =>
    (await read("fsdd", digits, part)).map(({ audioPath, text, speaker, duration }) => [audioPath, text, speaker, duration]);
  t.deepEqual(await spoken("test"), [
    ["recordings/0_theo_0.wav", "ZERO", "fsdd/theo", 0.1],
    ["recordings/7_jackson_4.wav", "SEVEN", "fsdd/jackson", 0.1],
  ]);
  t.deepEqual(await spoken("train"), [
    ["recordings/7_jackson_5.wav", "SEVEN", "fsdd/jackson", 0.1],
    ["recordings/9_theo_49.wav", "NINE", "fsdd/theo", 0.1],
  ]);
});

const lists = {
  text: ["a hello there", "b  good-bye"],
  "wav.scp": [`a ${join(folder.path, "kaldi", "long one.wav")}`, "b sub/b.flac"],
  utt2spk: ["a anna", "b bert"],
  "long one.wav": wav(32000),
  "sub/b.flac": flac(1600),
};
const kaldi = corpus("kaldi", lists);

test("a Kaldi folder: whole files and segments", async (t) => {
  t.deepEqual(
    (await read("kaldi", kaldi)).map(({ source, speaker, dataset, ...rest }) => [rest, source, speaker, dataset]),
    [
      [{ audioPath: "long one.wav", duration: 2, text: "HELLO THERE" }, "text:1", "kaldi/anna", "kaldi"],
      [{ audioPath: "sub/b.flac", duration: 0.1, text: "GOOD BYE" }, "text:2", "kaldi/bert", "kaldi"],
    ],
  );
  const cut = corpus("cut", {
    ...lists,
    "wav.scp": ["r long one.wav"],
    segments: ["a r 0.1 0.3", "b r 1.5 2.2", "c r 0 -1"],
    text: [...lists.text, "c c"],
    utt2spk: [...lists.utt2spk, "c c"],
  });
  t.deepEqual(
    (await read("kaldi", cut)).map(({ audioPath, offset, duration }) => [audioPath, offset, duration]),
    [
      ["long one.wav", 0.1, 0.2],
      ["long one.wav", 1.5, 0.5], // it ends with the recording
      ["long one.wav", 0, 2],
    ],
  );
});

test("what is wrong in a corpus is named with file and line", async (t) => {
  const cases: [CorpusName, CorpusPart | undefined, Readonly<Record<string, Uint8Array | readonly string[]>>, RegExp][] = [
    ["librispeech", undefined, { "BOOKS.TXT": [] }, /bad: holds no folders SPEAKER\/CHAPTER; give LibriSpeech\/train-clean-100/],
    ["librispeech", "test", { "1/2/1-2-0000.flac": flac(10) }, /bad: has no set test-\.\. but bad; choose another/],
    [
      "librispeech",
      undefined,
      { "1/2/1-2-0000.flac": flac(10) },
      /1-2\.trans\.txt: does not exist; each chapter has its transcripts there/,
    ],
    [
      "librispeech",
      undefined,
      { "1/2/1-2.trans.txt": ["1-2-0000 A", "1-2-0001"], "1/2/1-2-0000.flac": flac(10) },
      /1-2\.trans\.txt:2: is not a transcript; .*"1-2-0000 WHAT IS SAID"/,
    ],
    ["librispeech", undefined, { "1/2/1-2.trans.txt": ["1-3-0000 A"] }, /1-2\.trans\.txt:1: is not a transcript/],
    [
      "librispeech",
      undefined,
      { "1/2/1-2.trans.txt": ["", "1-2-0000 A"] },
      /1-2\.trans\.txt:2: its audio file .*1-2-0000\.flac does not exist/,
    ],
    ["ljspeech", undefined, { "wavs/a.wav": wav(1) }, /metadata\.csv: does not exist; give the unpacked folder LJSpeech-1\.1/],
    ["ljspeech", undefined, { "metadata.csv": ["a|A|A", "b|B"], "wavs/a.wav": wav(1) }, /metadata\.csv:2: must have three fields/],
    ["ljspeech", undefined, { "metadata.csv": ["a|A|In 1465"] }, /metadata\.csv:1: its transcript has digits; write numbers as the words/],
    ["ljspeech", undefined, { "metadata.csv": ["a|A|- !"] }, /metadata\.csv:1: its transcript has no letter A-Z/],
    ["ljspeech", undefined, { "metadata.csv": [] }, /bad: holds no utterance/],
    ["speechocean762", "train", { "WAVE/x": [] }, /train\/wav\.scp: does not exist; it must hold lines "UTTERANCE path/],
    ["fsdd", "train", { "0_theo_5.wav": wav(1) }, /recordings: does not exist; give the folder free-spoken-digit-dataset/],
    ["fsdd", "train", { "recordings/ten_theo_5.wav": wav(1) }, /ten_theo_5\.wav: must be named DIGIT_SPEAKER_INDEX\.wav/],
    ["fsdd", "test", { "recordings/1_theo_5.wav": wav(1) }, /bad: holds no utterance of part test/],
    ["kaldi", undefined, { ...lists, text: ["a A", "b"] }, /text:2: must be of the form "UTTERANCE WHAT IS SAID"/],
    ["kaldi", undefined, { ...lists, text: ["a A", "a B"] }, /text:2: a has a line already, .*text:1; each may have one/],
    ["kaldi", undefined, { ...lists, utt2spk: ["a anna"] }, /text:2: utterance b has no line in .*utt2spk/],
    ["kaldi", undefined, { ...lists, "wav.scp": ["b sub/b.flac"] }, /text:1: utterance a has no line in .*wav\.scp/],
    [
      "kaldi",
      undefined,
      { ...lists, "wav.scp": ["a flac -dc a.flac |", "b sub/b.flac"] },
      /wav\.scp:1: is a command; wav\.scp must name audio files/,
    ],
    ["kaldi", undefined, { ...lists, segments: ["a r 0 1"] }, /segments:1: recording r has no line in .*wav\.scp/],
    ["kaldi", undefined, { ...lists, segments: ["a a 0 1"] }, /text:2: utterance b has no line in .*segments/],
    ["kaldi", undefined, { ...lists, segments: ["a a 1 1"] }, /segments:1: must be of the form "UTTERANCE RECORDING BEGIN END"/],
    [
      "kaldi",
      undefined,
      { ...lists, segments: ["a a 0 0.1", "b b 0 0.7"] },
      /segments:2: the segment from 0 to 0\.7 s reaches beyond the end of its recording, 0\.10 s/,
    ],
  ];
  for (const [name, part, files, message] of cases) {
    const root = corpus("bad", { ...files, ".keep": [] });
    const error = await t.throwsAsync(readCorpus(name, root, { part }), { instanceOf: UsmLiteError, code: "BAD_CORPUS" }, String(message));
    t.regex(error?.message ?? "", message);
    rmSync(root, { recursive: true });
  }
});

test("what is asked of a corpus must fit it", async (t) => {
  const cases: [CorpusName, string, string | undefined, string, RegExp][] = [
    [
      "librispeech",
      librispeech,
      undefined,
      "INVALID_ARGUMENT",
      /holds the sets test-clean, train-clean-100; choose part train or test, or give the folder of one set/,
    ],
    ["speechocean762", speechocean, undefined, "INVALID_ARGUMENT", /speechocean762 has an official split; choose part/],
    ["fsdd", speechocean, undefined, "INVALID_ARGUMENT", /fsdd has an official split/],
    ["ljspeech", speechocean, "train", "INVALID_ARGUMENT", /LJSpeech has no official split; leave the part out/],
    ["speechocean762", speechocean, "dev", "INVALID_ARGUMENT", /part "dev" is unknown; choose train or test/],
    ["timit" as CorpusName, speechocean, undefined, "INVALID_ARGUMENT", /corpus "timit" is unknown; choose librispeech, ljspeech/],
    ["ljspeech", join(folder.path, "none"), undefined, "FILE_NOT_FOUND", /none does not exist/],
  ];
  for (const [name, root, part, code, message] of cases) {
    await t.throwsAsync(readCorpus(name, root, { part: part as CorpusPart }), { instanceOf: UsmLiteError, code, message });
  }
});

test("durations come from headers, or from decoding where a header does not tell", async (t) => {
  const root = corpus("durations", {
    "large header.wav": wav(8000, 8000, { chunks: [["LIST", zeros(10000) as unknown as Uint8Array]] }),
    "stereo.wav": wavFile([zeros(441), zeros(441)], { sampleRate: 44100, coding: "f32", extensible: true }),
    "endless.wav": wav(1600, 16000, { dataSize: 0xffffffff, riffSize: 0xffffffff }),
    "untold.flac": flac(5000, 0),
    "short.wav": wav(100, 16000, { dataSize: 400 }),
    "none.wav": wav(0),
    "header.flac": flac(100).subarray(0, 20),
    "empty.wav": new Uint8Array(0),
  });
  const duration = (name: string): Promise<number> => audioDuration(join(root, name));
  t.is(await duration("large header.wav"), 1);
  t.is(await duration("stereo.wav"), 0.01);
  t.is(await duration("endless.wav"), 0.1);
  t.is(await duration("untold.flac"), 0.3125);
  for (const [name, message] of [
    ["short.wav", /ends too early: 100 samples/],
    ["none.wav", /holds no samples/],
    ["header.flac", /ends too early/],
    ["empty.wav", /is empty/],
  ] as const) {
    await t.throwsAsync(duration(name), { instanceOf: UsmLiteError, code: "BAD_AUDIO", message }, name);
  }
  await t.throwsAsync(duration("absent.wav"), { code: "FILE_NOT_FOUND" });
  const damaged = corpus("damaged", { "metadata.csv": ["a|A|A"], "wavs/a.wav": new Uint8Array(0) });
  await t.throwsAsync(readCorpus("ljspeech", damaged), { code: "BAD_AUDIO", message: /metadata\.csv:1: .*a\.wav: is empty/ });
});
