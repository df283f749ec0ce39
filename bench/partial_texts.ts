/**
 * What text is worth before a turn ends: word error rates of partial texts (chunk-wise attention) and of transcripts of
 * the whole, on the same speech.
 *
 * `node dist/bench/partial_texts.js --data MANIFEST.jsonl [--utterances N] [--model DIR] [--json FILE]`; lengths other than those
 * of the service, in seconds, with `--step`, `--left-context`, `--look-ahead` and `--decision-lag`.
 */
import "../lib/cli/one_line_failures.js";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { writeJsonFile } from "../lib/checkpoint/json_file.js";
import { readManifest } from "../lib/data/manifest.js";
import { readUtterance } from "../lib/data/utterance_audio.js";
import { defaultModelFolder } from "../lib/models/default_model.js";
import { loadModel } from "../lib/models/model_folder.js";
import { wordErrorRate, type ErrorRate } from "../lib/text/word_error_rate.js";
import { PartialRecognition, streaming, type StreamingLengths } from "../lib/transcribe/partial_recognition.js";
import { Recognizer } from "../lib/transcribe/recognizer.js";

const length = (seconds: number) => ({ type: "string", default: String(seconds) }) as const;
const { values } = parseArgs({
  options: {
    data: { type: "string" },
    utterances: { type: "string", default: "200" },
    model: { type: "string", default: defaultModelFolder },
    json: { type: "string" },
    step: length(streaming.step),
    "left-context": length(streaming.leftContext),
    "look-ahead": length(streaming.lookAhead),
    "decision-lag": length(streaming.decisionLag),
  },
});
const lengths: StreamingLengths = {
  step: Number(values.step),
  leftContext: Number(values["left-context"]),
  lookAhead: Number(values["look-ahead"]),
  decisionLag: Number(values["decision-lag"]),
};
if (values.data === undefined) {
  console.error("name a manifest with --data");
  process.exit(2);
}
const recognizer = new Recognizer(loadModel(values.model));
const rate = recognizer.model.frontEnd.config.samplingRate;
const all = readManifest(values.data).filter(({ duration }) => duration >= 2);
const every = Math.max(1, Math.floor(all.length / Number(values.utterances)));
const utterances = all.filter((_, index) => index % every === 0);
const partials: string[] = [];
const wholes: string[] = [];
/** Seconds by which text lags behind the audio that it is about, each time there is some. */
const lags: number[] = [];
for (const utterance of utterances) {
  const samples = await readUtterance(utterance, 16_000);
  wholes.push(recognizer.transcribe(samples).text);
  // Silence behind it, so that the partial text comes to cover all of it.
  const padded = new Float32Array(samples.length + Math.ceil((lengths.step + lengths.lookAhead + 0.1) * rate));
  padded.set(samples);
  const partial = new PartialRecognition(recognizer, undefined, lengths);
  let text = "";
  for (let begin = 0; begin < padded.length; begin += rate / 10) {
    const chunk = partial.push(padded.subarray(begin, begin + rate / 10));
    if (!chunk) continue;
    const heard = partial.advance(recognizer.forward([chunk])[0] as Parameters<PartialRecognition["advance"]>[0]);
    if (heard.text !== text) lags.push(Math.min(begin + rate / 10, padded.length) / rate - heard.settledSeconds);
    text = heard.text;
  }
  partials.push(text);
}
const references = utterances.map(({ text }) => text);
const errors = (hypotheses: readonly string[], expected: readonly string[]): ErrorRate =>
  wordErrorRate(hypotheses.map((hypothesis, index) => ({ reference: expected[index] as string, hypothesis })));
const percent = ({ rate, interval }: ErrorRate): string =>
  `${(100 * rate).toFixed(1)} % (${interval.map((value) => (100 * value).toFixed(1)).join(" to ")} %)`;
const found = {
  whole: errors(wholes, references),
  partial: errors(partials, references),
  partialBesideWhole: errors(partials, wholes),
  secondsOld: lags.reduce((a, b) => a + b, 0) / lags.length,
};
console.log(`${utterances.length} utterances of ${values.data}; ${JSON.stringify(lengths)}`);
console.log(`word errors: whole ${percent(found.whole)}, partial texts ${percent(found.partial)}`);
console.log(`words in which partial texts differ from the whole: ${percent(found.partialBesideWhole)}`);
console.log(`audio of which the newest text speaks is ${found.secondsOld.toFixed(2)} s old on average`);
if (values.json !== undefined) {
  const row = ({ rate, interval, referenceLength }: ErrorRate) => ({ wer: rate, werInterval: [...interval], words: referenceLength });
  writeJsonFile(values.json, {
    data: basename(values.data),
    utterances: utterances.length,
    lengths: { ...lengths },
    whole: row(found.whole),
    partial: row(found.partial),
    partialBesideWhole: row(found.partialBesideWhole),
    secondsOld: found.secondsOld,
  });
}
