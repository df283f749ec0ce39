import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { readSafetensors } from "../lib/checkpoint/safetensors.js";
import { writeSafetensors } from "../lib/checkpoint/safetensors_writer.js";
import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { loadModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import { availableInstructionSets, setInstructionSet } from "../lib/native/runtime.js";
import { SequenceOffsets } from "../lib/tensor/sequence_offsets.js";
import { Tensor } from "../lib/tensor/tensor.js";
import { relativeError } from "./reference.js";
import { sharedFolder } from "./shared.js";
import { randomValues } from "./gradient.js";

const reference = sharedFolder() && join(sharedFolder() as string, "reference", "lasr_ctc");
const withReference = reference && existsSync(reference) ? test : test.skip;

withReference("forward agrees with transformers on every instruction set", (t) => {
  const model = loadModel(reference as string);
  using expected = readSafetensors(join(reference as string, "expected.safetensors"));
  const mask = expected.values("attention_mask");
  const [batch = 0, frames = 0] = expected.shape("attention_mask");
  const lengths = Array.from({ length: batch }, (_, item) =>
    (model.network as LasrForCtc).hiddenFrames(mask.subarray(item * frames, (item + 1) * frames).filter(Boolean).length),
  );
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const folder = mkdtempSync(join(tmpdir(), "usm-lite-"));
    writeSafetensors(join(folder, "out.safetensors"), paddedForward(model.network, expected));
    using ours = readSafetensors(join(folder, "out.safetensors"));
    for (const name of ["encoder_last_hidden_state", "logits"]) {
      t.deepEqual(ours.shape(name), expected.shape(name));
      const error = relativeError(
        ours.values(name) as Float32Array,
        expected.values(name) as Float32Array,
        ours.shape(name)[1] as number,
        lengths,
      );
      t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
    }
    const [, hiddenFrames = 0] = ours.shape("tokens");
    lengths.forEach((length, item) => {
      const row = [item * hiddenFrames, item * hiddenFrames + length] as const;
      t.deepEqual(ours.values("tokens").subarray(...row), expected.values("tokens").subarray(...row));
    });
    rmSync(folder, { recursive: true });
  }
});

withReference("a sequence gives the same bits alone and in any batch", (t) => {
  const network = loadModel(reference as string).network as LasrForCtc;
  const lengths = [61, 200, 13, 140];
  const values = lengths.map((length, index) => randomValues(length * 128, index));
  const logits = (items: readonly number[]): Float32Array[] => {
    const offsets = new SequenceOffsets(items.map((item) => lengths[item] as number));
    const packed = Float32Array.from(items.flatMap((item) => [...(values[item] as Float32Array)]));
    const result = network.forward(Tensor.from(packed, [offsets.frames, 128]), offsets);
    const all = result.logits.toArray();
    return result.offsets.lengths.map((length, index) => {
      const begin = result.offsets.begin(index) * result.logits.dim(1);
      return all.slice(begin, begin + length * result.logits.dim(1));
    });
  };
  const together = logits([0, 1, 2, 3]);
  lengths.forEach((_, item) => t.deepEqual(logits([item])[0], together[item]));
  t.deepEqual(logits([3, 1])[0], together[3]);
});
