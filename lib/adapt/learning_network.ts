/** The network through which adapters learn, and where that is. */
import { checkTrainableOnGpu, placeFrozen } from "../models/device_training.js";
import { loadModel, outlineModel, type SpeechModel } from "../models/model_folder.js";
import { trainableNetwork } from "../models/trainable.js";
import type { TrainableModel } from "../train/trainable_model.js";
import { chooseTrainingDevice, type TrainingDevice } from "../train/training_device.js";

/** It stays as it is. Dispose of it. */
export interface LearningNetwork extends Disposable {
  readonly network: TrainableModel;
  /** Of its weights, and of the adapters that learn. */
  readonly device: "cpu" | "cuda";
}

/**
 * Of a model on the CPU its own network. Of one on the GPU, whose packed weights let no gradients through, another one of the same values
 * in bfloat16.
 * @throws UsmLiteError UNSUPPORTED_MODEL for a family that is not trained, or not on the GPU where the model is there; OUT_OF_MEMORY
 */
export function learningNetwork(model: SpeechModel): LearningNetwork {
  const { device, folder, language } = model;
  const adapted = trainableNetwork(model);
  if (device === "cpu") return { network: adapted, device, [Symbol.dispose]: () => {} };
  checkTrainableOnGpu(model.network, folder);
  const { network: float } = loadModel(folder, { weights: "float32", language });
  try {
    const network = placeFrozen(float, folder);
    return { network, device, [Symbol.dispose]: () => network.dispose() };
  } finally {
    float.dispose();
  }
}

/**
 * Loads a model where its adapters are to learn.
 * @param onStatus told where that is, and why `auto` passes a GPU over
 * @param language as {@link loadModel} is told
 * @throws UsmLiteError as {@link loadModel}; UNSUPPORTED_MODEL for `cuda` and a network that the GPU does not train
 */
export function loadForLearning(
  folder: string,
  wanted: TrainingDevice,
  onStatus: (sentence: string) => void,
  language?: string,
): SpeechModel {
  const { network, file } = outlineModel(folder, language);
  file.close();
  const device = chooseTrainingDevice(wanted, () => checkTrainableOnGpu(network, folder), onStatus);
  return loadModel(folder, { device, language });
}
