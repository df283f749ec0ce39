/** Conformers with random weights: speed does not depend on what a model has learned. */
import { DeviceWeight } from "../lib/device/device_weight.js";
import { parseLasrConfig } from "../lib/models/lasr/lasr_config.js";
import { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import type { WeightSource } from "../lib/nn/weight_source.js";
import { PackedMatrix } from "../lib/quant/packed_matrix.js";
import { packWeight } from "../lib/quant/packed_weight.js";
import { tidy } from "../lib/tensor/scope.js";
import type { Tensor } from "../lib/tensor/tensor.js";

export interface NetworkSize {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly vocabulary: number;
  readonly convolutionKernel: number;
}

/**
 * @param spec how the linear layers of the blocks are coded; "float32" leaves them as they are
 * @param device "cuda" places packed layers on the GPU
 */
export function randomNetwork(size: NetworkSize, spec: string, device: "cpu" | "cuda" = "cpu"): LasrForCtc {
  const config = parseLasrConfig(
    {
      model_type: "lasr_ctc",
      vocab_size: size.vocabulary,
      encoder_config: {
        hidden_size: size.hidden,
        intermediate_size: 4 * size.hidden,
        num_hidden_layers: size.layers,
        num_attention_heads: size.heads,
        conv_kernel_size: size.convolutionKernel,
        subsampling_conv_channels: Math.min(size.hidden, 256),
        layerdrop: 0,
      },
    },
    "the benchmark",
  );
  return new LasrForCtc(config, randomWeights(spec, device, /^encoder\.layers\./));
}

/** @param names of the matrices that are coded as `spec` says */
export function randomWeights(spec: string, device: "cpu" | "cuda", names: RegExp): WeightSource {
  const fresh = new FreshWeights(1);
  return {
    tensor: (name, shape, initialization) => fresh.tensor(name, shape, initialization),
    matrix: (name, shape, initialization) => {
      const weight = fresh.matrix(name, shape, initialization);
      return spec !== "float32" && names.test(name) ? packed(weight, spec, device) : weight;
    },
    has: () => false,
  };
}

function packed(weight: Tensor, spec: string, device: "cpu" | "cuda"): PackedMatrix | DeviceWeight {
  const matrix = tidy(() =>
    device === "cuda" ? DeviceWeight.from(packWeight(weight, spec)) : PackedMatrix.from(packWeight(weight, spec)),
  );
  weight.dispose();
  return matrix;
}
