/**
 * Writes what training/pytorch/pretrain.py reads: features and targets of manifests, and where each word begins.
 *
 * usage: node training/pytorch/data.js --out DATA.safetensors --dictionary FILE --align MODEL --held-out SPEAKERS MANIFEST..
 *
 * SPEAKERS is a list with commas. Word beginnings come from the best CTC path of the transcript under MODEL, a model folder
 * with the character tokenizer of the model to train. Tensors, for utterances 0..n-1 with words 0..w-1 in all:
 *   features (frames, mel bins) I16: 1024 times the natural logarithm of mel power
 *   frames (n + 1)          first frame of each utterance, then their number
 *   words (n + 1)           first word of each utterance, then their number
 *   word_frames (w)         frame at which each word begins; the first of an utterance begins with it
 *   tokens, token_words     tokens of all words one after another; (w + 1) first token of each word
 *   phones, phone_words     the same for phones
 *   dataset (n), speaker (n), held_out (n)
 */
import "../../dist/lib/cli/one_line_failures.js";
import { parseArgs } from "node:util";
import { FeatureCache } from "../../dist/lib/data/feature_cache.js";
import { readManifest } from "../../dist/lib/data/manifest.js";
import { writeSafetensors } from "../../dist/lib/checkpoint/safetensors_writer.js";
import { loadModel } from "../../dist/lib/models/model_folder.js";
import { logSoftmax } from "../../dist/lib/ops/softmax.js";
import { SequenceOffsets } from "../../dist/lib/tensor/sequence_offsets.js";
import { tidy } from "../../dist/lib/tensor/scope.js";
import { Tensor } from "../../dist/lib/tensor/tensor.js";
import { PronouncingDictionary } from "../../dist/lib/text/pronouncing_dictionary.js";

const { values: options, positionals: manifests } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: "string" },
    dictionary: { type: "string" },
    align: { type: "string" },
    "held-out": { type: "string", default: "" },
    features: { type: "string", default: "build/features" },
  },
});
if (!options.out || !options.dictionary || !options.align || manifests.length === 0) {
  console.error("usage: node training/pytorch/data.js --out DATA.safetensors --dictionary FILE --align MODEL --held-out SPEAKERS MANIFEST..");
  process.exit(2);
}

const featureScale = 1024;
const utterances = manifests.flatMap(readManifest);
const model = loadModel(options.align);
const dictionary = PronouncingDictionary.read(options.dictionary);
const cache = new FeatureCache(options.features, model.frontEnd.config);
await cache.prepare(utterances, [1]);

/** @returns {{values: Float32Array, frames: number, tokens: number}} log-probabilities (frames, tokens) */
function logProbabilities({ values, frames, bins }) {
  return tidy(() => {
    const { logits, offsets } = model.network.forward(Tensor.from(values, [frames, bins]), new SequenceOffsets([frames]));
    return { values: logSoftmax(logits).toArray(), frames: offsets.frames, tokens: logits.dim(1) };
  });
}

/**
 * Frame of the first emission of each token on the most probable path.
 * @returns {number[] | undefined} undefined when the frames do not suffice
 */
function align({ values, frames, tokens }, targets, blank) {
  const states = 2 * targets.length + 1; // blank, token, blank, .. token, blank
  const symbol = (state) => (state % 2 === 0 ? blank : targets[(state - 1) / 2]);
  const steps = new Uint8Array(frames * states); // states advanced by on arriving
  let best = new Float64Array(states).fill(-Infinity);
  for (let frame = 0; frame < frames; frame++) {
    const next = new Float64Array(states).fill(-Infinity);
    for (let state = 0; state < states; state++) {
      let from = frame === 0 ? (state < 2 ? 0 : -Infinity) : best[state];
      const skips = state % 2 === 1 && state > 1 && symbol(state) !== symbol(state - 2) ? 2 : 1;
      for (let step = 1; frame > 0 && step <= Math.min(skips, state); step++) {
        if (best[state - step] > from) {
          from = best[state - step];
          steps[frame * states + state] = step;
        }
      }
      next[state] = from + values[frame * tokens + symbol(state)];
    }
    best = next;
  }
  let state = best[states - 1] >= best[states - 2] ? states - 1 : states - 2;
  if (best[state] === -Infinity) return undefined;
  const first = new Array(targets.length);
  for (let frame = frames - 1; frame >= 0; frame--) {
    if (state % 2 === 1) first[(state - 1) / 2] = frame;
    state -= steps[frame * states + state];
  }
  return first;
}

const frames = [0];
const words = [0];
const wordFrames = [];
const tokens = [];
const tokenWords = [];
const phones = [];
const phoneWords = [];
const values = [];
const stride = Math.round(model.secondsPerFrame * 100);
const centre = stride / 2 + 6; // halfway to the next hidden frame; each sees 13 frames
const heldOut = new Set(options["held-out"].split(",").filter(Boolean));
const datasets = [...new Set(utterances.map(({ dataset }) => dataset ?? ""))];
const speakers = [...new Set(utterances.map(({ speaker }) => speaker ?? ""))];
let unaligned = 0;
utterances.forEach((utterance, index) => {
  const features = cache.read(utterance, 1);
  values.push(Int16Array.from(features.values, (value) => Math.round(value * featureScale)));
  const spelled = utterance.text.split(" ").map((word) => model.tokenizer.encode(word));
  const first = align(logProbabilities(features), spelled.flat(), model.tokenizer.blankId);
  if (!first) unaligned++;
  let token = 0;
  spelled.forEach((ids, word) => {
    // The token before the letters stands for a space, which may be anywhere between the words.
    const letter = first && first[token + Math.min(1, ids.length - 1)];
    const before = first && token > 0 ? first[token - 1] : 0;
    wordFrames.push(word === 0 ? 0 : first ? Math.round((stride * (before + letter)) / 2 + centre) : -1);
    tokenWords.push(tokens.length);
    tokens.push(...ids);
    phoneWords.push(phones.length);
    phones.push(...dictionary.encode(utterance.text.split(" ")[word]));
    token += ids.length;
  });
  frames.push(frames[index] + features.frames);
  words.push(words[index] + spelled.length);
});

const integers = (list) => ({ dtype: "I32", shape: [list.length], data: Int32Array.from(list) });
const { featureSize } = model.frontEnd.config;
const all = new Int16Array(frames.at(-1) * featureSize);
values.forEach((block, index) => all.set(block, frames[index] * featureSize));
writeSafetensors(
  options.out,
  [
    ["features", { dtype: "I16", shape: [frames.at(-1), featureSize], data: all }],
    ["frames", integers(frames)],
    ["words", integers(words)],
    ["word_frames", integers(wordFrames)],
    ["tokens", integers(tokens)],
    ["token_words", integers([...tokenWords, tokens.length])],
    ["phones", integers(phones)],
    ["phone_words", integers([...phoneWords, phones.length])],
    ["dataset", integers(utterances.map(({ dataset }) => datasets.indexOf(dataset ?? "")))],
    ["speaker", integers(utterances.map(({ speaker }) => speakers.indexOf(speaker ?? "")))],
    ["held_out", integers(utterances.map(({ speaker }) => (heldOut.has(speaker) ? 1 : 0)))],
  ],
  {
    feature_scale: String(featureScale),
    vocabulary: String(model.tokenizer.size),
    phones: String(dictionary.symbols.length),
    datasets: datasets.join(","),
  },
);
console.log(`${utterances.length} utterances, ${wordFrames.length} words, ${frames.at(-1)} frames; ${unaligned} without word beginnings`);
