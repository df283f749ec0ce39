/** How much of it the GPU is asked for: operations of a block of an encoder, each of which costs a short pass a few microseconds. */
import "./gpu.js";
import test from "ava";
import {
  DeviceSequences,
  DeviceTensor,
  DeviceWeight,
  packWeight,
  Recording,
  SequenceOffsets,
  tidy,
  type Arithmetic,
  type Tensor,
} from "../lib/operations.js";
import { placeSequences } from "../lib/device/placement.js";
import { parseLasrConfig } from "../lib/models/lasr/lasr_config.js";
import { LasrEncoder } from "../lib/models/lasr/lasr_encoder.js";
import { parseParakeetCtcConfig } from "../lib/models/parakeet/parakeet_config.js";
import { ParakeetEncoder } from "../lib/models/parakeet/parakeet_encoder.js";
import type { ForwardContext } from "../lib/nn/forward_context.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { WeightScope, type WeightSource } from "../lib/nn/weight_source.js";
import { randomTensor } from "./gradient.js";
import { tinyEncoder } from "./tiny_model.js";

interface Encoder {
  forward(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer: () => void): { hidden: Tensor };
}

/** Random weights, matrices of whole 64 rows packed on the GPU. */
function packed(arithmetic: Arithmetic): WeightSource {
  const fresh = new FreshWeights(1);
  return {
    tensor: (...what) => fresh.tensor(...what),
    matrix: (name, shape, initialization) => {
      const weight = fresh.tensor(name, shape, initialization);
      return shape.slice(0, 2).every((extent) => extent % 64 === 0) ? DeviceWeight.from(packWeight(weight, "int4"), { arithmetic }) : weight;
    },
    has: () => false,
  };
}

const families: Record<string, (blocks: number, weights: WeightSource) => Encoder> = {
  lasr(blocks, weights) {
    const encoder = { ...tinyEncoder, hidden_size: 64, intermediate_size: 64, num_hidden_layers: blocks, num_mel_bins: 16 };
    const config = parseLasrConfig({ model_type: "lasr_ctc", vocab_size: 9, pad_token_id: 8, encoder_config: encoder }, "lasr");
    return new LasrEncoder(new WeightScope(weights), config.encoder_config);
  },
  parakeet(blocks, weights) {
    const sizes = { hidden_size: 64, intermediate_size: 64, num_attention_heads: 2, num_hidden_layers: blocks, num_mel_bins: 16 };
    const encoder = { ...sizes, conv_kernel_size: 5, subsampling_factor: 4, subsampling_conv_channels: 16 };
    const config = parseParakeetCtcConfig({ model_type: "parakeet_ctc", vocab_size: 9, pad_token_id: 8, encoder_config: encoder }, "parakeet");
    return new ParakeetEncoder(new WeightScope(weights), config.encoder_config);
  },
};

/** Of a whole pass. */
function operations(encoder: Encoder): number {
  return tidy(() => {
    const offsets = new SequenceOffsets([40]);
    placeSequences(offsets, new DeviceSequences(offsets));
    const features = DeviceTensor.from(randomTensor([40, 16], 1));
    const pass = (): void => tidy(() => void encoder.forward(features, offsets, {}, () => undefined));
    pass();
    using recording = new Recording(pass);
    return recording.operations;
  });
}

for (const [family, arithmetic, expected] of [
  // Two normalizations at once, three more; query, key and value; attention; its output; two products of each of three other modules; a convolution.
  ["parakeet", "bfloat16", 14],
  // Rotary positions.
  ["lasr", "bfloat16", 15],
  // Rows are rounded before each of eight products.
  ["parakeet", "int8", 22],
] as const) {
  test.serial(`a block of ${family} in ${arithmetic} is ${expected} operations`, (t) => {
    const [two, three] = [2, 3].map((blocks) => operations((families[family] as (typeof families)[string])(blocks, packed(arithmetic))));
    t.is((three as number) - (two as number), expected);
  });
}
