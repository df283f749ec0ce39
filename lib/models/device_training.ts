/** Networks that are trained on the GPU: which ones can be, and how they get there. */
import { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import { DeviceWeightSource } from "../nn/device_weight_source.js";
import type { WeightSource } from "../nn/weight_source.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainableModel } from "../train/trainable_model.js";
import { headDimension } from "./lasr/lasr_config.js";
import { LasrForCtc } from "./lasr/lasr_for_ctc.js";

// What the kernels of attention, normalisation and convolution take.
const widestHead = 128;
const widestFrame = 4096;
const multiple = 8;

/**
 * @param what the network is called in the message: a folder
 * @throws UsmLiteError UNSUPPORTED_MODEL for a network that the GPU cannot train: of another family than LASR CTC, or of sizes that kernels
 * do not take
 */
export function checkTrainableOnGpu(network: unknown, what: string): asserts network is LasrForCtc {
  const refuse = (why: string): never => {
    throw new UsmLiteError("UNSUPPORTED_MODEL", `${what} ${why}; train it with device "cpu"`);
  };
  if (!(network instanceof LasrForCtc)) refuse("is of a family that is trained on the CPU only: on the GPU those of lasr_ctc are");
  const { encoder_config: config } = (network as LasrForCtc).config;
  const head = headDimension(config);
  if (head % multiple !== 0 || head > widestHead) refuse(`has heads of ${head} values; on the GPU they are trained with 8, 16, .. ${widestHead}`);
  if (config.hidden_size > widestFrame) refuse(`has frames of ${config.hidden_size} values; on the GPU they are trained with up to ${widestFrame}`);
  for (const [name, size] of [["hidden_size", config.hidden_size], ["intermediate_size", config.intermediate_size]] as const) {
    if (size % multiple !== 0) refuse(`has ${name} ${size}; on the GPU it must be a multiple of ${multiple}`);
  }
}

/**
 * The same network with copies of its weights on the GPU, as float32, to be trained there. Dispose of it.
 * @throws UsmLiteError UNSUPPORTED_MODEL as {@link checkTrainableOnGpu}; NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
 *
 * @example
 * const network = placeForTraining(loadModel("float").network);
 * await new Trainer(network, batches, { folder: "run", totalSteps: 500, schedule }).run();
 */
export function placeForTraining(network: unknown, what = "the model"): LasrForCtc {
  checkTrainableOnGpu(network, what);
  return new LasrForCtc(network.config, new DeviceWeightSource(copiesOf(network)));
}

/** Whether a model was made by {@link placeForTraining}. */
export const isOnGpu = (model: TrainableModel): boolean => [...model.parameters().values()].some((parameter) => parameter instanceof DeviceTensor);

function copiesOf(network: TrainableModel): WeightSource {
  const copy = (name: string): Tensor => {
    const found = network.parameters().get(name) ?? network.buffers().get(name);
    if (!found) throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is packed; only float weights can be trained`);
    return found.clone();
  };
  return { tensor: copy, matrix: copy, has: (name) => network.parameters().has(name) };
}
