/** The YAML file of `usm-lite train`. docs/training.md describes every key. */
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { readTextFile } from "../checkpoint/json_file.js";
import { YamlDocument } from "../checkpoint/yaml_document.js";
import { encoderSchema } from "../models/lasr/lasr_config.js";
import { noiseSchema, specAugmentSchema } from "./augmentation_config.js";

const count = z.number().int().positive();
const whole = z.number().int().nonnegative();
const share = z.number().min(0).max(1);

const schema = z.strictObject({
  seed: whole.default(1),
  /** Keys of `encoder_config` in config.json. */
  model: z.strictObject(encoderSchema.shape),
  /** Sub-words learned from the transcripts; 31 is characters alone. */
  vocabularySize: count.default(31),
  /** Words of context of the n-gram language model, itself included; 0 makes none. */
  languageModelOrder: whole.max(5).default(3),
  data: z.strictObject({
    train: z.array(z.string()).min(1),
    /** Features of all utterances are kept here; default: `features` in the output folder. */
    features: z.string().optional(),
    speeds: z.array(z.number().min(0.5).max(2)).min(1).default([0.9, 1, 1.1]),
    batchSeconds: z.number().positive().default(60),
    /** Epochs at the beginning that go from short to long utterances. */
    shortestFirstEpochs: whole.default(1),
    /** Epochs at the beginning without dropout and augmentation. */
    plainEpochs: whole.default(1),
    specAugment: specAugmentSchema.optional(),
    noise: noiseSchema.optional(),
  }),
  optimizer: z
    .strictObject({
      learningRate: z.number().positive().default(1e-3),
      warmUpSteps: whole.default(100),
      decay: z.enum(["cosine", "inverse-square-root", "none"]).default("cosine"),
      /** `inverse-square-root` does not go below this rate. */
      lowestLearningRate: z.number().nonnegative().default(0),
      /** Share of all steps, the last ones, over which the rate falls linearly to zero. */
      coolDownShare: share.default(0),
      weightDecay: z.number().nonnegative().default(0.01),
      maximumNorm: z.number().positive().default(1),
    })
    .prefault({}),
  epochs: count,
  /** Decay of the moving average of weights that is exported; 0 exports the last weights. */
  averageDecay: z.number().min(0).lt(1).default(0.999),
  /** A second loss on an inner block, in training only. */
  intermediateLoss: z
    .strictObject({
      layer: count,
      weight: z.number().gt(0).lt(1),
      /** CMUdict file; without it the second loss is over the same tokens. */
      pronunciations: z.string().optional(),
    })
    .optional(),
  checkpointMinutes: z.number().positive().default(10),
});

/** A checked configuration; paths are absolute. */
export type TrainingConfig = z.infer<typeof schema>;

/**
 * Reads a configuration. Relative paths in it are relative to its folder.
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG naming file, line and key
 *
 * @example
 * readTrainingConfig("training/default.yaml").epochs; // 26
 */
export function readTrainingConfig(file: string): TrainingConfig {
  const text = readTextFile(file, "BAD_CONFIG", "name a YAML file, such as training/default.yaml; docs/training.md lists its keys");
  const document = new YamlDocument(text, file, {
    code: "BAD_CONFIG",
    hint: "docs/training.md lists the keys",
  });
  const config = document.check(schema);
  const { num_hidden_layers: blocks } = config.model;
  if (config.intermediateLoss && config.intermediateLoss.layer >= blocks) {
    throw document.error(["intermediateLoss", "layer"], `must be below num_hidden_layers of the model, ${blocks}`);
  }
  const absolute = (path: string): string => resolve(dirname(file), path);
  const { data, intermediateLoss, ...rest } = config;
  return {
    ...rest,
    data: {
      ...data,
      train: data.train.map(absolute),
      ...(data.features === undefined ? {} : { features: absolute(data.features) }),
    },
    ...(intermediateLoss
      ? {
          intermediateLoss: intermediateLoss.pronunciations
            ? { ...intermediateLoss, pronunciations: absolute(intermediateLoss.pronunciations) }
            : intermediateLoss,
        }
      : {}),
  };
}
