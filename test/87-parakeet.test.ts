import test from "ava";
import { availableInstructionSets, setInstructionSet, SequenceOffsets, Tensor, tidy } from "../lib/index.js";
import { transducerGreedy } from "../lib/decode/transducer_greedy.js";
import { loadModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { ParakeetForCtc } from "../lib/models/parakeet/parakeet_for_ctc.js";
import type { ParakeetTransducer } from "../lib/models/parakeet/parakeet_transducer.js";
import { randomValues } from "./gradient.js";
import { maskLengths, readExpected, referenceClips, referenceFolder, relativeError, throughFile } from "./reference.js";

const folders = Object.fromEntries(["parakeet_ctc", "parakeet_rnnt", "parakeet_tdt"].map((family) => [family, referenceFolder(family)]));
const withReference = folders["parakeet_ctc"] ? test : test.skip;

withReference("features agree with transformers", async (t) => {
  const { frontEnd } = loadModel(folders["parakeet_ctc"] as string);
  using expected = readExpected(folders["parakeet_ctc"] as string);
  const wanted = expected.values("input_features") as Float32Array;
  const [, frames = 0, bins = 0] = expected.shape("input_features");
  const lengths = maskLengths(expected, "attention_mask");
  (await referenceClips()).forEach((samples, item) => {
    using features = frontEnd.features(samples);
    t.deepEqual(features.shape, [lengths[item], bins]);
    const begin = item * frames * bins;
    const error = relativeError(features.toArray(), wanted.subarray(begin, begin + features.size), features.dim(0), [features.dim(0)]);
    t.log(`relative error ${error}`);
    t.true(error < 1e-3, `clip ${item}: ${error}`);
  });
});

for (const [family, folder] of Object.entries(folders)) {
  (folder ? test.serial : test.skip)(`${family}: forward agrees with transformers on every instruction set`, (t) => {
    const { network } = loadModel(folder as string);
    using expected = readExpected(folder as string);
    const lengths = maskLengths(expected, "encoder_mask");
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      throughFile(paddedForward(network, expected), (ours) => {
        for (const name of ["encoder_last_hidden_state", "logits"].filter((tensor) => expected.has(tensor))) {
          t.deepEqual(ours.shape(name), expected.shape(name));
          const [, frames = 0] = ours.shape(name);
          const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, frames, lengths);
          t.log(`${name} on ${set}: relative error ${error}`);
          t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
        }
        // A CTC token belongs to a frame, and padded frames have none; a transducer's tokens follow each other.
        const perFrame = expected.has("logits");
        const [, steps = 0] = ours.shape("tokens");
        lengths.forEach((length, item) => {
          const row = [item * steps, item * steps + (perFrame ? length : steps)] as const;
          t.deepEqual(ours.values("tokens").subarray(...row), expected.values("tokens").subarray(...row));
        });
      });
    }
  });
}

withReference("a sequence gives the same bits alone and in any batch", (t) => {
  const ctc = loadModel(folders["parakeet_ctc"] as string).network as ParakeetForCtc;
  const tdt = loadModel(folders["parakeet_tdt"] as string).network as ParakeetTransducer;
  const lengths = [61, 400, 13, 140];
  const values = lengths.map((length, index) => randomValues(length * 80, index));
  const outputs = (items: readonly number[]): unknown[] =>
    tidy(() => {
      const offsets = new SequenceOffsets(items.map((item) => lengths[item] as number));
      const packed = Tensor.from(Float32Array.from(items.flatMap((item) => [...(values[item] as Float32Array)])), [offsets.frames, 80]);
      const { logits, offsets: where } = ctc.forward(packed, offsets);
      const { projected } = tdt.encode(packed, offsets);
      const rows = (tensor: Tensor, item: number): Float32Array =>
        tensor.rows(where.begin(item), where.begin(item) + (where.lengths[item] as number)).toArray();
      const inputs = items.map((_, item) => ({ values: rows(projected, item), frames: where.lengths[item] as number }));
      return transducerGreedy(tdt, inputs).map((path, item) => ({ logits: rows(logits, item), path }));
    });
  const together = outputs([0, 1, 2, 3]);
  lengths.forEach((_, item) => t.deepEqual(outputs([item])[0], together[item]));
  t.deepEqual(outputs([3, 1])[0], together[3]);
});
