/**
 * Makes the language model of a model from transcripts and from other text that resembles them.
 *
 * usage: node training/language_model.js --out FILE --transcripts MANIFEST --text PATH.. [--words N] [--repeat N]
 *          [--order N] [--minimum-count N] [--without MANIFEST]
 *
 * PATH is a text file, a folder of *.md and *.txt files, or a file of WordNet (data.noun and the like), of which the
 * examples in quotation marks are taken. Sentences are ranked by how much likelier they are in transcripts than in the
 * other text (Moore and Lewis 2010, with bigrams), and the best are taken until there are N words. Transcripts count N
 * times as much. --without leaves out the transcripts of held-out speech and tells the perplexity of their text.
 */
import "../dist/lib/cli/one_line_failures.js";
import { parseArgs } from "node:util";
import { readManifest } from "../dist/lib/data/manifest.js";
import { trainLanguageModel } from "../dist/lib/decode/kneser_ney.js";
import { encodeLanguageModel, writeLanguageModel } from "../dist/lib/decode/ngram_file.js";
import { normalizeText } from "../dist/lib/text/normalize.js";
import { rankSentences } from "./sentences.js";

const { values: options } = parseArgs({
  options: {
    out: { type: "string" },
    transcripts: { type: "string", multiple: true, default: [] },
    text: { type: "string", multiple: true, default: [] },
    without: { type: "string" },
    words: { type: "string", default: "3000000" },
    repeat: { type: "string", default: "3" },
    order: { type: "string", default: "3" },
    "minimum-count": { type: "string", default: "2" },
  },
});
if (!options.out || options.transcripts.length === 0) {
  console.error("usage: node training/language_model.js --out FILE --transcripts MANIFEST --text PATH..");
  process.exit(2);
}

const transcripts = options.transcripts.flatMap(readManifest).map(({ text }) => normalizeText(text));
const heldOut = options.without ? readManifest(options.without).map(({ text }) => normalizeText(text)) : [];
const left = new Set(heldOut);
const own = transcripts.filter((text) => !left.has(text));
const ownWords = own.map((text) => text.split(" "));

const { ranked, found } = rankSentences(ownWords, options.text);
const chosen = [];
let words = 0;
for (const { text, length } of ranked) {
  if (words >= Number(options.words)) break;
  chosen.push(text);
  words += length;
}
console.log(`${found} sentences of other text; the best ${chosen.length} have ${words} words`);

const weighted = Array.from({ length: Number(options.repeat) }, () => own).flat();
const model = trainLanguageModel([...weighted, ...chosen], {
  order: Number(options.order),
  minimumCount: Number(options["minimum-count"]),
});
if (heldOut.length > 0) {
  const scored = heldOut.reduce((sum, text) => sum + model.textScore(text), 0);
  const length = heldOut.reduce((sum, text) => sum + text.split(" ").length + 1, 0);
  const unknown = heldOut.flatMap((text) => text.split(" ")).filter((word) => model.wordId(word) === undefined).length;
  console.log(`perplexity of ${heldOut.length} held-out texts ${Math.exp(-scored / length).toFixed(1)}, ${unknown} unknown words`);
}
writeLanguageModel(options.out, model);
console.log(`${model.vocabularySize} words, ${model.tree.word.length} n-grams, ${encodeLanguageModel(model).length} bytes`);
