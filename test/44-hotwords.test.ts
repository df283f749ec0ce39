import test from "ava";
import { ctcBeamSearch, HotwordScorer, trainTokenizer } from "../lib/operations.js";
import { clearLattice, tokenizerOf } from "./lattice.js";

const tokenizers = [trainTokenizer(["NEW YORK CITY CAT"], 31), trainTokenizer(["NEW YORK NEW YORK CITY CITY CAT CAT"], 40)];

/** Characters of hotwords matched while `text` is heard, and at its end. */
function matched(phrases: string[], text: string): [open: number, closed: number] {
  const results = tokenizers.map((tokenizer) => {
    const scorer = new HotwordScorer(phrases, tokenizer, 1);
    const state = tokenizer.encode(text).reduce((before, id) => scorer.extend(before, id), scorer.start());
    return [state.score, scorer.finish(state)] as [number, number];
  });
  if (results[0]?.join() !== results[1]?.join()) throw new Error("the score depends on how text is cut into pieces");
  return results[0] as [number, number];
}

test("complete phrases keep their bonus, others lose it", (t) => {
  t.deepEqual(matched(["new york"], "NEW YORK"), [9, 9]);
  t.deepEqual(matched(["new york"], "I LOVE NEW YORK STATE"), [9, 9]);
  t.deepEqual(matched(["new york"], "NEW YO"), [7, 0]);
  t.deepEqual(matched(["new york"], "NEW YOU"), [0, 0]);
  t.deepEqual(matched(["new york"], "NEW YORKER"), [0, 0]);
  t.deepEqual(matched(["new york"], "ANEW YORK"), [0, 0]);
  t.deepEqual(matched(["new york"], "NEW NEW YORK NEW YORK"), [18, 18]);
  t.deepEqual(matched([], "NEW YORK"), [0, 0]);
  t.deepEqual(matched(["cat"], ""), [0, 0]);
});

test("the longest phrase counts, and a broken one falls back to what it completed", (t) => {
  const phrases = ["NEW YORK", "NEW YORK CITY", "CITY CAT", "CAT", "YORK CITY CAT"];
  t.deepEqual(matched(phrases, "NEW YORK CITY"), [14, 14]);
  t.deepEqual(matched(phrases, "NEW YORK CIT"), [13, 9]);
  t.deepEqual(matched(phrases, "NEW YORK CITIES"), [9, 9]);
  t.deepEqual(matched(phrases, "NEW YORK CAT"), [13, 13]);
  t.deepEqual(matched(phrases, "NEW YORK CITY CAT"), [18, 18]);
  t.deepEqual(matched(phrases, "YORK CITY CAT"), [14, 14]);
  t.deepEqual(matched(phrases, "YORK CITY CATS"), [0, 0]);
  t.deepEqual(matched(phrases, "NEW CITY CAT"), [9, 9]);
});

test("a hotword wins against a slightly likelier word", (t) => {
  const tokenizer = tokenizerOf(["▁C", "AT", "AD"]);
  const lattice = clearLattice([1, 0, 2, 0], 4, 0.9);
  lattice.values[2 * 4 + 2] = Math.log(0.6);
  lattice.values[2 * 4 + 3] = Math.log(0.35);
  const decode = (...scorers: HotwordScorer[]): string | undefined =>
    ctcBeamSearch(lattice, tokenizer, { secondsPerFrame: 0.04 }, { scorers })[0]?.text;
  t.is(decode(), "CAT");
  t.is(decode(new HotwordScorer(["cad"], tokenizer)), "CAD");
  t.is(decode(new HotwordScorer(["cad"], tokenizer, 0)), "CAT");
});

test("case, accents and punctuation of pieces do not count", (t) => {
  const tokenizer = tokenizerOf(["▁c", "ät", "ad", ",", "▁D", "og"]);
  const hear = (...pieces: string[]): number => {
    const scorer = new HotwordScorer(["Cat dog"], tokenizer, 1);
    return scorer.finish(pieces.reduce((state, piece) => scorer.extend(state, tokenizer.idOf(piece) as number), scorer.start()));
  };
  t.is(hear("▁c", "ät", "▁D", "og"), 8);
  t.is(hear("▁c", "ad", "▁D", "og"), 0);
  t.is(hear("▁c", "ät", "▁D", "og", ",", "▁c", "ad"), 8);
});

test("misuse is a coded error", (t) => {
  const [tokenizer] = tokenizers;
  t.throws(() => new HotwordScorer(["123"], tokenizer!), { code: "INVALID_ARGUMENT", message: /"123" has no letters/ });
  t.throws(() => new HotwordScorer(["A"], tokenizer!, -1), { code: "INVALID_ARGUMENT", message: /bonus/ });
});
