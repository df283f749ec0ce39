import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { CtcBeamSearch } from "../lib/decode/ctc_beam_search.js";
import { CtcGreedySearch } from "../lib/decode/ctc_greedy.js";
import { hypothesisOf, settledTextOf, textOf } from "../lib/decode/hypothesis.js";
import { loadCtcVocabulary } from "../lib/text/ctc_vocabulary.js";
import type { Tokenizer } from "../lib/text/tokenizer.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("clean-up");
test.after.always(folder.clean);
const pieces = ["<pad>", "<unk>", "|", ..."'.,?!amnrstve"];

function load(name: string, config: object): Tokenizer {
  const path = join(folder.path, name);
  mkdirSync(path);
  writeFileSync(join(path, "vocab.json"), JSON.stringify(Object.fromEntries(pieces.map((piece, id) => [piece, id]))));
  writeFileSync(join(path, "tokenizer_config.json"), JSON.stringify(config));
  return loadCtcVocabulary(path, 0, pieces.length);
}

const tokenizer = load("cleaned", { clean_up_tokenization_spaces: true });
const idsOf = (text: string): number[] => Array.from(text, (letter) => pieces.indexOf(letter === " " ? "|" : letter));
const tokensOf = (text: string) =>
  idsOf(text).map((id, frame) => ({ id, firstFrame: frame, endFrame: frame + 1, confidence: 1 / (frame + 1) }));

test("spaces are cleaned up as transformers does where tokenizer_config.json says so", (t) => {
  // Recorded from Wav2Vec2CTCTokenizer of transformers 5.18, decode(ids, group_tokens=False, skip_special_tokens=True).
  for (const [written, cleaned] of [
    ["a 's mat .", "a's mat."],
    ["a ' man ? !", "a'man?!"],
    ["vast n't , a 've 're 'm", "vastn't, a've're'm"],
    ["a n ' t", "an't"],
    ["a ' ' m", "a'' m"],
    ["a '", "a '"],
    ["' a", "' a"],
    ["a !? n", "a!? n"],
    ["", ""],
  ] as const) {
    t.is(textOf(idsOf(written), tokenizer), cleaned, written);
    t.is(tokenizer.decode(idsOf(written)), cleaned, written);
    const { text, words } = hypothesisOf(tokensOf(written), 0, tokenizer, { secondsPerFrame: 1 });
    t.is(text, cleaned);
    t.is(words.map(({ word }) => word).join(" "), cleaned);
  }
});

test("nothing is cleaned up by default", (t) => {
  for (const plain of [load("default", {}), load("false", { clean_up_tokenization_spaces: false })]) {
    t.is(textOf(idsOf("a 's mat ."), plain), "a 's mat .");
    t.is(settledTextOf(idsOf("a '"), plain), "a '");
  }
});

test("words that became one last from the first to the last of them", (t) => {
  const { words } = hypothesisOf(tokensOf("a n't . man"), 0, tokenizer, { secondsPerFrame: 0.5, startSeconds: 1 });
  t.deepEqual(
    words.map(({ word, start, end }) => [word, start, end]),
    [
      ["an't.", 1, 4.5],
      ["man", 5, 6.5],
    ],
  );
  const mean = (1 * (1 / 3) * (1 / 4) * (1 / 5) * (1 / 7)) ** (1 / 5);
  t.true(Math.abs((words[0]?.confidence as number) - mean) < 1e-12);
});

/** Log probabilities of one frame for each letter, which is all but certain. */
function framesOf(ids: readonly number[]) {
  const values = new Float32Array(ids.length * pieces.length).fill(Math.log(1e-6));
  ids.forEach((id, frame) => (values[frame * pieces.length + id] = 0));
  return { values, frames: ids.length, tokens: pieces.length };
}

test("what is settled of a text stays, whatever comes", (t) => {
  t.is(settledTextOf(idsOf("a man '"), tokenizer), "a man");
  t.is(settledTextOf(idsOf("a man 't"), tokenizer), "a man 't");
  const letters = "  ''.nnmstvrea";
  const noise = randomValues(400 * 12, 7).map((value) => (value + 1) / 2);
  for (let trial = 0; trial < 400; trial++) {
    const text = Array.from({ length: 12 }, (_, index) => letters[Math.floor((noise[trial * 12 + index] as number) * letters.length)]).join(
      "",
    );
    const ids = idsOf(text);
    const whole = textOf(ids, tokenizer);
    for (let end = 0; end <= ids.length; end++) {
      const settled = settledTextOf(ids.slice(0, end), tokenizer);
      if (!whole.startsWith(settled)) t.fail(`${JSON.stringify(settled)} was settled of ${JSON.stringify(whole)}`);
    }
  }
  for (const search of [
    new CtcGreedySearch(tokenizer, { secondsPerFrame: 1 }),
    new CtcBeamSearch(tokenizer, { secondsPerFrame: 1 }, { beamThreshold: 1, tokenThreshold: 1 }),
  ]) {
    search.advance(framesOf(idsOf("man ' ")));
    t.is(search.settledText(), "man");
    search.advance(framesOf(idsOf("s ")));
    t.is(search.settledText(), "man's");
  }
});
