import test from "ava";
import { trainLanguageModel, UsmLiteError } from "../lib/operations.js";
import { Lexicon } from "../lib/decode/lexicon.js";
import { SpellingModel } from "../lib/decode/spelling_model.js";
import { addon } from "../lib/native/addon.js";
import { randomValues } from "./gradient.js";

/** Words of one to eight of five letters, in order. */
function randomWords(count: number, seed: number): string[] {
  const values = randomValues(9 * count, seed);
  const letterOf = (value: number): string => "ABCDE"[Math.floor(Math.abs(value) * 1000) % 5] as string;
  const words = Array.from({ length: count }, (_, index) =>
    Array.from(values.subarray(9 * index, 9 * index + 1 + (index % 8)), letterOf).join(""),
  );
  return [...new Set(words)].sort();
}

test("each n-gram knows the node of the same words but the first", (t) => {
  const words = randomWords(40, 3);
  const texts = Array.from({ length: 60 }, (_, text) =>
    Array.from({ length: 9 }, (_, place) => words[(text * 7 + place * place * 3) % words.length] as string).join(" "),
  );
  for (const order of [1, 2, 3, 5]) {
    const { tree, suffix } = trainLanguageModel(texts, { order });
    const nodes = new Map<string, number>([["", 0]]);
    const path: string[] = [""];
    for (let node = 0; node < tree.word.length; node++) {
      for (let child = tree.firstChild[node] as number; child < (tree.firstChild[node + 1] as number); child++) {
        const words = `${path[node]} ${tree.word[child]}`;
        path[child] = words;
        nodes.set(words, child);
      }
    }
    path.forEach((words, node) => node > 0 && t.is(suffix[node], nodes.get(words.replace(/^ \d+/, ""))));
  }
});

test("the tree of words knows where each letter leads, and which words lie below", (t) => {
  const words = randomWords(300, 4);
  const spelling = new SpellingModel(words);
  const scores = Float32Array.from(randomValues(words.length, 5));
  const lexicon = new Lexicon(spelling.spell(words), scores, spelling.characters.length);
  const { wordAt, bestBelow, firstBelow, endBelow } = lexicon.tables;
  const beginnings = new Set(words.flatMap((word) => Array.from({ length: word.length + 1 }, (_, length) => word.slice(0, length))));
  t.is(wordAt.length, beginnings.size);
  for (const beginning of beginnings) {
    let node = 0;
    for (const letter of beginning) node = lexicon.next(node, spelling.symbolOf(letter));
    const below = words.flatMap((word, index) => (word.startsWith(beginning) ? [index] : []));
    t.is(wordAt[node], words.indexOf(beginning));
    t.deepEqual([firstBelow[node], endBelow[node]], [below[0], (below.at(-1) as number) + 1]);
    t.is(bestBelow[node], Math.max(...below.map((index) => scores[index] as number)));
    for (let symbol = 0; symbol < spelling.characters.length; symbol++) {
      t.is(lexicon.next(node, symbol) >= 0, beginnings.has(beginning + spelling.characters[symbol]));
    }
    t.is(lexicon.next(node, spelling.endSymbol), -1);
  }
});

test("characters of two code units are one symbol, and others than the words' are told", (t) => {
  const spelling = new SpellingModel(["A\u{1f600}B", "\u{1f600}"]);
  t.deepEqual(spelling.characters, ["A", "B", "\u{1f600}"]);
  const { symbols, offsets } = spelling.spell(["\u{1f600}A", "", "C"]);
  t.deepEqual([...symbols], [2, 0, spelling.otherSymbol]);
  t.deepEqual([...offsets], [0, 2, 2, 3]);
});

test("native code refuses words and n-grams that point outside of what there is", (t) => {
  const { ngramSuffixes, spellingTables, lexiconTables } = addon as Record<string, (...parts: unknown[]) => unknown>;
  const integers = (...values: number[]): Int32Array => Int32Array.from(values);
  const refused = (call: () => unknown, message: RegExp): void => {
    t.throws(call, { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT", message });
  };
  t.deepEqual(ngramSuffixes?.(integers(-1, 0, 1), integers(1, 3, 3, 3)), integers(0, 0, 0));
  t.deepEqual(ngramSuffixes?.(integers(), integers(0)), integers());
  refused(() => ngramSuffixes?.(integers(-1, 0, 1), integers(1, 3, 3, 4)), /firstChild/);
  refused(() => ngramSuffixes?.(integers(-1, 0, 1), integers(1, 3, 2, 3)), /firstChild/);
  refused(() => ngramSuffixes?.(integers(-1, 0, 1), integers(1, 3, 3)), /firstChild/);
  refused(() => ngramSuffixes?.(new Float32Array(3), integers(1, 3, 3, 3)), /word must be an Int32Array/);
  for (const word of [-1, 2, 2 ** 31 - 1]) t.is(ngramSuffixes?.(integers(-1, 0, 1, word), integers(1, 3, 4, 4, 4)), undefined);

  refused(() => spellingTables?.(integers(0, 2), integers(0, 2), 2), /symbols must be from 0 to 1/);
  refused(() => spellingTables?.(integers(0, -1), integers(0, 2), 2), /symbols/);
  for (const offsets of [[], [0, 1], [0, 3], [1, 2], [0, 2, 1, 2]]) {
    refused(() => spellingTables?.(integers(0, 1), integers(...offsets), 2), /offsets/);
  }
  refused(
    () =>
      spellingTables?.(
        Int32Array.from({ length: 70 }, (_, symbol) => symbol),
        integers(0, 70),
        2 ** 21,
      ),
    /different letters/,
  );
  refused(() => lexiconTables?.(integers(0, 1), integers(0, 2), new Float32Array(2), 2), /a score for each word/);
  refused(() => lexiconTables?.(integers(0, 5), integers(0, 2), new Float32Array(1), 2), /symbols/);
  // Words out of order, or twice, take no more room than there is.
  t.notThrows(() => lexiconTables?.(integers(0, 1, 1, 0, 0, 1, 0), integers(0, 2, 4, 6, 7), new Float32Array(4), 2));
});
