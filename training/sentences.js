/** Sentences of books and of WordNet, ranked by how much they resemble transcripts (Moore and Lewis 2010, with bigrams). */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { normalizeText } from "../dist/lib/text/normalize.js";

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

/**
 * @param {string[][]} ownWords transcripts, as words
 * @param {string[]} paths text files, folders of *.md and *.txt files, and files of WordNet (data.noun and the like), of which the
 *   examples in quotation marks are taken
 * @returns {{ranked: {text: string, length: number}[], found: number}} the most similar first, each once; and how many there were
 */
export function rankSentences(ownWords, paths) {
  const other = [];
  const counts = new Map();
  const seen = new Set();
  for (const file of paths.flatMap((path) => [...filesOf(path)])) {
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
  return { ranked, found: other.length };
}
