/**
 * Writes what training/pytorch/synthesize.py speaks: short sentences that resemble transcripts, and how their words are spelled.
 *
 * usage: node training/pytorch/synthetic_text.js --out TEXT --words WORDS.json --dictionary FILE --tokenizer MODEL
 *          --transcripts MANIFEST [--without MANIFEST] --text PATH.. [--sentences N]
 *
 * PATH is as for training/language_model.js. A sentence has at most 11 words, all of them in the dictionary, and is left out
 * when each of its words was taken 25 times before. TEXT gets a sentence a line; WORDS.json, for each of their words, its
 * tokens under the tokenizer of the folder MODEL and its phones.
 */
import "../../dist/lib/cli/one_line_failures.js";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { readManifest } from "../../dist/lib/data/manifest.js";
import { loadModel } from "../../dist/lib/models/model_folder.js";
import { normalizeText } from "../../dist/lib/text/normalize.js";
import { PronouncingDictionary } from "../../dist/lib/text/pronouncing_dictionary.js";
import { rankSentences } from "../sentences.js";

const { values: options } = parseArgs({
  options: {
    out: { type: "string" },
    words: { type: "string" },
    dictionary: { type: "string" },
    tokenizer: { type: "string" },
    transcripts: { type: "string", multiple: true, default: [] },
    without: { type: "string" },
    text: { type: "string", multiple: true, default: [] },
    sentences: { type: "string", default: "60000" },
  },
});
if (!options.out || !options.words || !options.dictionary || !options.tokenizer || options.text.length === 0) {
  console.error("usage: node training/pytorch/synthetic_text.js --out TEXT --words WORDS.json --dictionary FILE --tokenizer MODEL --transcripts MANIFEST --text PATH..");
  process.exit(2);
}

const mostWords = 11;
const letters = { least: 8, most: 60 };
const mostUses = 25; // of a word, before it no longer counts as a reason to take a sentence

const texts = (manifest) => readManifest(manifest).map(({ text }) => normalizeText(text));
const left = new Set(options.without ? texts(options.without) : []);
const own = options.transcripts.flatMap(texts).filter((text) => !left.has(text));
const dictionary = PronouncingDictionary.read(options.dictionary);
const { tokenizer } = loadModel(options.tokenizer);

const uses = new Map();
const chosen = [];
for (const { text, length } of rankSentences(own.map((text) => text.split(" ")), options.text).ranked) {
  if (chosen.length >= Number(options.sentences)) break;
  const words = text.split(" ");
  if (length > mostWords || text.length < letters.least || text.length > letters.most) continue;
  if (!words.every((word) => dictionary.has(word))) continue;
  if (words.every((word) => (uses.get(word) ?? 0) >= mostUses)) continue;
  for (const word of words) uses.set(word, (uses.get(word) ?? 0) + 1);
  chosen.push(text);
}
const spelled = Object.fromEntries([...uses.keys()].map((word) => [word, [tokenizer.encode(word), dictionary.encode(word)]]));
writeFileSync(options.out, chosen.join("\n") + "\n");
writeFileSync(options.words, JSON.stringify(spelled));
console.log(`${chosen.length} sentences, ${uses.size} words`);
