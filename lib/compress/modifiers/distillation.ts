/** `distillation`: the float model, another one, or the model itself before rounding teaches the compressed one. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
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
  /** Weight of the divergence from the teacher's distributions; default 1, and 0 for transducers. */
  logits: weight.optional(),
  temperature: z.number().min(0.1).max(100).default(1),
  frames: z.enum(["all", "non-blank", "weighted"]).default("weighted"),
  /** Weight of the distance from the teacher's hidden states; default 0, and 1 for transducers. */
  hidden: weight.optional(),
  /** Blocks after which hidden states are compared, from 0; default: all. */
  layers: z.array(z.number().int().nonnegative()).min(1).optional(),
};

export const distillation = modifierType("distillation", keys, ({ teacher, labels, logits, temperature, frames, hidden, layers }) => ({
  train: ({ model, modelFolder }) => {
    const student = model as TrainableNetwork;
    const taught = teacher === "self" ? student : teacherFrom(teacher === "float" ? modelFolder : teacher, student);
    const byFrame = taught.kind === "ctc";
    if (!byFrame && (logits ?? 0) > 0) {
      throw new UsmLiteError("BAD_RECIPE", "logits of a transducer are not distilled, hidden states are; leave the key `logits` out");
    }
    const options = { labels, logits: logits ?? (byFrame ? 1 : 0), temperature, frames, hidden: hidden ?? (byFrame ? 0 : 1), layers };
    if (options.logits + options.hidden === 0) throw new UsmLiteError("BAD_RECIPE", "`logits` and `hidden` are both 0; nothing is distilled");
    const all = { ...options, blankId: taughtBlank(taught) };
    return teacher === "self" ? new Distillation(student, "self", all) : new Distillation(student, taught, all, () => taught.dispose());
  },
}));

/** @throws UsmLiteError BAD_RECIPE when the teacher is of another kind; those of {@link loadModel} */
function teacherFrom(folder: string, student: TrainableNetwork): TrainableNetwork {
  const teacher = trainableNetwork(loadModel(folder, { weights: "float32" }));
  if (teacher.kind === student.kind && teacher.vocabularySize === student.vocabularySize && taughtBlank(teacher) === taughtBlank(student)) return teacher;
  teacher.dispose();
  throw new UsmLiteError("BAD_RECIPE", `the teacher ${folder} has another kind of decoder or vocabulary than the model that is compressed`);
}

const taughtBlank = (network: TrainableNetwork): number => (network.kind === "sequence-to-sequence" ? -1 : network.blankId);
