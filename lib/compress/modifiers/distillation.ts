/** `distillation`: the float model, another one, or the model itself before rounding teaches the compressed one. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { isOnGpu, placeForTraining } from "../../models/device_training.js";
import { loadModel } from "../../models/model_folder.js";
import { trainableNetwork, type TrainableNetwork } from "../../models/trainable.js";
import { Distillation } from "../../train/distillation.js";
import { modifierType } from "../modifier.js";

const weight = z.number().nonnegative();

const keys = {
  /** `float`: the model that is compressed, as it was; `self`: as it is in training, neither pruned nor quantized; or a model folder. */
  teacher: z.string().default("float"),
  /** Weight of the loss against the transcript. */
  labels: weight.default(1),
  /** Weight of the divergence from the teacher's distributions. */
  logits: weight.default(1),
  temperature: z.number().min(0.1).max(100).default(1),
  frames: z.enum(["all", "non-blank", "weighted"]).default("weighted"),
  /** Weight of the distance from the teacher's hidden states. */
  hidden: weight.default(0),
  /** Blocks after which hidden states are compared, from 0; default: all. */
  layers: z.array(z.number().int().nonnegative()).min(1).optional(),
};

export const distillation = modifierType("distillation", keys, ({ teacher, labels, logits, temperature, frames, hidden, layers }) => ({
  wholeModel: true,
  train: ({ model, modelFolder, language }) => {
    if (logits + hidden === 0) throw new UsmLiteError("BAD_RECIPE", "`logits` and `hidden` are both 0; nothing is distilled");
    const student = model as TrainableNetwork;
    if (student.kind === "transducer" && temperature !== 1) {
      throw new UsmLiteError("BAD_RECIPE", `temperature is ${temperature}, but the paths of a transducer are compared at 1 only`);
    }
    const taught = teacher === "self" ? student : teacherFrom(teacher === "float" ? modelFolder : teacher, language, student);
    const all = { labels, logits, temperature, frames, hidden, layers, blankId: taughtBlank(taught) };
    return teacher === "self" ? new Distillation(student, "self", all) : new Distillation(student, taught, all, () => taught.dispose());
  },
}));

/** @throws UsmLiteError BAD_RECIPE when the teacher is of another kind; those of {@link loadModel} */
function teacherFrom(folder: string, language: string | undefined, student: TrainableNetwork): TrainableNetwork {
  const teacher = trainableNetwork(loadModel(folder, { weights: "float32", language }));
  const fits =
    teacher.kind === student.kind && teacher.vocabularySize === student.vocabularySize && taughtBlank(teacher) === taughtBlank(student);
  if (fits && !isOnGpu(student)) return teacher;
  try {
    if (fits) return placeForTraining(teacher, folder);
  } finally {
    teacher.dispose();
  }
  throw new UsmLiteError("BAD_RECIPE", `the teacher ${folder} has another kind of decoder or vocabulary than the model that is compressed`);
}

const taughtBlank = (network: TrainableNetwork): number => (network.kind === "sequence-to-sequence" ? -1 : network.blankId);
