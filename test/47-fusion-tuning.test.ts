import test from "ava";
import { trainLanguageModel, tuneFusion } from "../lib/operations.js";
import { clearLattice, tokenizerOf } from "./lattice.js";

test("tuning finds weights with which the language model corrects what was misheard", (t) => {
  const model = trainLanguageModel(["the cat sat", "the cat sat down", "a cat sat", "the rat sat"]);
  const tokenizer = tokenizerOf(["▁THE", "▁CAT", "▁CAD", "▁SAT", "▁SAD"]);
  const lattice = clearLattice([1, 0, 3, 0, 5, 0], tokenizer.size, 0.5);
  lattice.values[2 * 6 + 2] = lattice.values[4 * 6 + 4] = Math.log(0.4);
  const utterances = [{ logProbabilities: lattice, reference: "the cat sat" }];
  const [best, ...others] = tuneFusion(utterances, model, tokenizer, { alphas: [0, 0.5], betas: [0, 2], blankPenalties: [0] });
  t.deepEqual([best.alpha, best.wordErrorRate], [0.5, 0]);
  t.is(others.length, 3);
  t.true((others.at(-1)?.wordErrorRate ?? 0) > 0.5);
  t.throws(() => tuneFusion(utterances, model, tokenizer, { alphas: [] }), { code: "INVALID_ARGUMENT" });
  t.throws(() => tuneFusion([], model, tokenizer), { code: "INVALID_ARGUMENT" });
});
