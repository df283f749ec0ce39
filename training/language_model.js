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
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { readManifest } from "../dist/lib/data/manifest.js";
import { trainLanguageModel } from "../dist/lib/decode/kneser_ney.js";
import { encodeLanguageModel, writeLanguageModel } from "../dist/lib/decode/ngram_file.js";
import { normalizeText } from "../dist/lib/text/normalize.js";

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

const longestSentence = 20; // words
const rarest = 3; // occurrences of a word in the other text, unless transcripts have it

function* filesOf(path) {
  if (!statSync(path).isDirectory()) return void (yield path);
  for (const name of readdirSync(path).sort()) {
    const inside = join(path, name);
    if (statSync(inside).isDirectory() || /\.(md|txt)$/.test(name)) yield* filesOf(inside);
  }
}

/** Sentences of prose: parts of paragraphs between marks that end a sentence or a quotation. */
function sentencesOf(file) {
  const text = readFileSync(file, "utf8");
  if (/^data\.(noun|verb|adj|adv)$/.test(basename(file))) {
    return text.split("\n").flatMap((line) => Array.from(line.split("|")[1]?.matchAll(/"([^"]+)"/g) ?? [], ([, example]) => example));
  }
  return text
    .split(/\n\s*\n/)
    .filter((paragraph) => !/^\s*(#|-{3}|\|)/.test(paragraph))
    .flatMap((paragraph) => paragraph.replace(/\b(Mr|Mrs|Dr|St)\./g, "$1").replace(/\s+/g, " ").split(/[.!?;:"\u201c\u201d()]+|--+|\u2014/));
}

const usable = (sentence) => !/\d/.test(sentence) && /[a-z]/.test(sentence);
const wordsOf = (sentence) => normalizeText(sentence).split(" ").filter(Boolean);

/** ln P of bigrams, interpolated with unigrams. */
class BigramModel {
  constructor(sentences) {
    this.unigrams = new Map();
    this.bigrams = new Map();
    this.total = 0;
    for (const words of sentences) {
      let previous = "<s>";
      for (const word of [...words, "</s>"]) {
        this.unigrams.set(word, (this.unigrams.get(word) ?? 0) + 1);
        const pair = `${previous} ${word}`;
        this.bigrams.set(pair, (this.bigrams.get(pair) ?? 0) + 1);
        this.total++;
        previous = word;
      }
    }
    this.unigrams.set("<s>", sentences.length);
  }

  score(words) {
    let sum = 0;
    let previous = "<s>";
    for (const word of [...words, "</s>"]) {
      const unigram = ((this.unigrams.get(word) ?? 0) + 0.1) / (this.total + 10_000);
      const context = this.unigrams.get(previous) ?? 0;
      const share = context / (context + 5);
      const bigram = context > 0 ? (this.bigrams.get(`${previous} ${word}`) ?? 0) / context : 0;
      sum += Math.log(share * bigram + (1 - share) * unigram);
      previous = word;
    }
    return sum;
  }
}

const transcripts = options.transcripts.flatMap(readManifest).map(({ text }) => normalizeText(text));
const heldOut = options.without ? readManifest(options.without).map(({ text }) => normalizeText(text)) : [];
const left = new Set(heldOut);
const own = transcripts.filter((text) => !left.has(text));
const ownWords = own.map((text) => text.split(" "));

const other = [];
const counts = new Map();
const seen = new Set();
for (const file of options.text.flatMap((path) => [...filesOf(path)])) {
  for (const sentence of sentencesOf(file)) {
    if (!usable(sentence)) continue;
    const words = wordsOf(sentence);
    if (words.length < 2 || words.length > longestSentence) continue;
    const text = words.join(" ");
    if (seen.has(text)) continue;
    seen.add(text);
    for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    other.push(text);
  }
}
const known = new Set(ownWords.flat());
const candidates = other.filter((text) => text.split(" ").every((word) => known.has(word) || counts.get(word) >= rarest));
const inside = new BigramModel(ownWords);
const every = Math.max(1, Math.floor(candidates.length / 100_000));
const outside = new BigramModel(candidates.filter((_, index) => index % every === 0).map((text) => text.split(" ")));
const ranked = candidates
  .map((text) => {
    const words = text.split(" ");
    return { text, length: words.length, score: (inside.score(words) - outside.score(words)) / (words.length + 1) };
  })
  .sort((a, b) => b.score - a.score);
const chosen = [];
let words = 0;
for (const { text, length } of ranked) {
  if (words >= Number(options.words)) break;
  chosen.push(text);
  words += length;
}
console.log(`${other.length} sentences of other text; the best ${chosen.length} have ${words} words`);

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
