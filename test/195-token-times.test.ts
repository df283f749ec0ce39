/** When tokens that a decoder writes are said: dynamic time warping over its attention to the encoder. */
import test from "ava";
import { attentionWeights, tokenBegins, type AttentionWeights } from "../lib/decode/token_alignment.js";
import { SequenceOffsets, Tensor } from "../lib/operations.js";
import { loadModel } from "../lib/models/model_folder.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { randomValues } from "./gradient.js";
import { readExpected, referenceFolder } from "./reference.js";

const reference = referenceFolder("whisper");
const withReference = reference ? test : test.skip;

// Tokens drawn at random, and where transformers' `_extract_token_timestamps` lets each begin in the first clip: heads 0 and 2 of layer 1
// and 3 of layer 0 over the first 300 frames.
const heardTokens = [298, 296, 117, 155, 267, 52, 267, 268, 253, 226, 63, 53, 290, 222, 93, 118, 281, 126, 252, 230, 21, 233, 146, 8, 47];
const heardBegins = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 13, 137, 138, 138, 138, 138, 161, 170, 171, 172, 176, 280, 285, 299];

withReference("tokens begin where transformers lets them begin", (t) => {
  const network = loadModel(reference as string).network as SequenceToSequenceNetwork;
  using expected = readExpected(reference as string);
  const values = expected.values("input_features") as Float32Array;
  const [, bins = 0, frames = 0] = expected.shape("input_features");
  const turned = Float32Array.from({ length: bins * frames }, (_, i) => values[(i % bins) * frames + Math.floor(i / bins)] as number);
  using memory = network.remember(network.encode(Tensor.from(turned, [frames, bins]), new SequenceOffsets([frames])));
  using session = network.session(memory);
  const weights: AttentionWeights[] = [];
  session.advance([{ past: [], tokens: heardTokens, item: 0 }], (layer, queries, keys) => {
    for (const [of, head] of [
      [1, 0],
      [1, 2],
      [0, 3],
    ])
      if (of === layer) weights.push(attentionWeights(queries, keys, 4, head as number));
  });
  t.deepEqual(tokenBegins(weights, 300, 7), heardBegins);
});

test("tokens begin along the best path of all", (t) => {
  const [tokens, frames] = [4, 6];
  // Every path: at which frame each token begins and which frames it shares with the one before.
  const best = (weights: Float32Array): number => {
    const from = (token: number, frame: number): number => {
      const here = weights[token * frames + frame] as number;
      if (token === tokens - 1 && frame === frames - 1) return here;
      const next = [
        [token + 1, frame],
        [token, frame + 1],
        [token + 1, frame + 1],
      ].filter(([a = 0, b = 0]) => a < tokens && b < frames);
      return here + Math.max(...next.map(([a = 0, b = 0]) => from(a, b)));
    };
    return from(0, 0);
  };
  const sumAlong = (weights: Float32Array, begins: number[]): number => {
    let sum = 0;
    begins.forEach((begin, token) => {
      // A token lasts until the next begins: until the frame before, or with it.
      const end = begins[token + 1] ?? frames - 1;
      for (let frame = begin; frame < end; frame++) sum += weights[token * frames + frame] as number;
      const shared = weights[token * frames + end] as number;
      if (token === tokens - 1 || end === begin) sum += shared;
      else sum += Math.max(0, shared);
    });
    return sum;
  };
  for (let seed = 1; seed <= 20; seed++) {
    // Weights that standardization leaves as they are: mean 0 and deviation 1 over the tokens.
    const raw = randomValues(tokens * frames, seed);
    const weights = Float32Array.from(raw);
    for (let frame = 0; frame < frames; frame++) {
      const column = Array.from({ length: tokens }, (_, token) => raw[token * frames + frame] as number);
      const mean = column.reduce((sum, value) => sum + value, 0) / tokens;
      const deviation = Math.sqrt(column.reduce((sum, value) => sum + (value - mean) ** 2, 0) / tokens);
      column.forEach((value, token) => (weights[token * frames + frame] = (value - mean) / deviation));
    }
    const begins = tokenBegins([{ values: raw, tokens, frames }], frames, 1);
    t.is(begins[0], 0);
    t.true(Math.abs(sumAlong(weights, begins) - best(weights)) < 1e-4, `seed ${seed}`);
  }
  const flat = { values: new Float32Array(tokens * frames).fill(0.1), tokens, frames };
  t.true(
    tokenBegins([flat], frames, 7).every((begin) => begin >= 0 && begin < frames),
    "weights that say nothing",
  );
});
