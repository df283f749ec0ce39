/**
 * What binary weights cost a transducer: a small one is trained on spoken digits in floats, then as `recipes/1bit-rnnt.yaml` says and, to
 * tell binary weights from further training, alike with eight bits; the error rates of all three. Called again it goes on
 * (docs/results.md).
 *
 * usage: node dist/bench/binary_transducer.js --train TRAIN.jsonl --test TEST.jsonl --out FOLDER [--dataset fsdd] [--seeds 1]
 *   [--steps 2500] [--json FILE]
 */
import "../lib/cli/one_line_failures.js";
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  compressModel,
  evaluate,
  loadModel,
  parseRecipe,
  readManifest,
  readRecipe,
  Recognizer,
  Trainer,
  trainTokenizer,
  UsmLiteError,
  warmupCosine,
  writeSafetensors,
  type Tokenizer,
  type Utterance,
} from "../lib/index.js";
import { parakeetFeaturesFrom } from "../lib/audio/parakeet_features.js";
import { writeJsonFile, type JsonObject } from "../lib/checkpoint/json_file.js";
import { FeatureCache } from "../lib/data/feature_cache.js";
import { SpeechBatches } from "../lib/data/speech_batches.js";
import { describeModel } from "../lib/models/model_folder.js";
import { trainableNetwork } from "../lib/models/trainable.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { packageRoot } from "./package_root.js";

const { values } = parseArgs({
  options: {
    train: { type: "string" },
    test: { type: "string" },
    out: { type: "string" },
    dataset: { type: "string", default: "fsdd" },
    seeds: { type: "string", default: "1" },
    steps: { type: "string", default: "2500" },
    json: { type: "string" },
  },
});
const { train, test, out, dataset } = values;
if (!train || !test || !out) throw new UsmLiteError("INVALID_ARGUMENT", "name --train, --test and --out");
const steps = Number(values.steps);
const preprocessor = { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 80 };

mkdirSync(out, { recursive: true });
const ofDataset = (manifest: string): Utterance[] =>
  readManifest(manifest).filter((utterance) => utterance.dataset === dataset && utterance.text !== "");
const [heard, unheard] = [ofDataset(train), ofDataset(test)];
const manifest = join(out, "train.jsonl");
writeFileSync(manifest, heard.map(({ audioPath, ...one }) => JSON.stringify({ audio_filepath: audioPath, ...one })).join("\n"));
const tokenizer = trainTokenizer(
  heard.map(({ text }) => text),
  31,
);

const rows: JsonObject[] = [];
for (let seed = 1; seed <= Number(values.seeds); seed++) {
  const float = join(out, `float-${seed}`);
  if (!existsSync(join(float, "model.safetensors")) && !(await trainFloat(float, seed))) process.exit(0);
  const stages = readRecipe(join(packageRoot, "recipes", "1bit-rnnt.yaml")).document as {
    stages: { modifiers: object[]; training: object }[];
  };
  const [stage] = stages.stages as [(typeof stages.stages)[number]];
  const training = { ...stage.training, steps, learningRate: 1e-3, batchSeconds: 32, seed, speedPerturbation: false, specAugment: false };
  const eight = stage.modifiers.map((modifier) => ("spec" in modifier ? { ...modifier, spec: "int8", scale: "format" } : modifier));
  const models = { float32: float, "8-bit": { ...stage, modifiers: eight, training }, "1-bit": { ...stage, training } };
  for (const [name, stageOrFolder] of Object.entries(models)) {
    const folder = typeof stageOrFolder === "string" ? stageOrFolder : join(out, `${name.replace(/\W+/g, "-")}-${seed}`);
    if (typeof stageOrFolder !== "string" && !existsSync(folder)) {
      const recipe = parseRecipe(JSON.stringify({ stages: [{ name: "fine-tune", ...stageOrFolder }] }), "1bit-rnnt.yaml");
      if (!(await compressModel({ model: float, recipe, manifest, out: folder }))) process.exit(0);
    }
    const { wer, werInterval, words } = await evaluate(new Recognizer(loadModel(folder)), unheard);
    const { size } = statSync(join(folder, "model.safetensors"));
    rows.push({ seed, weights: name, wer, werInterval: [...werInterval], words, bytes: size });
    console.log(
      `seed ${seed}, ${name}: WER ${(100 * wer).toFixed(1)} % [${werInterval.map((one) => (100 * one).toFixed(1)).join(", ")}] over ${words} words`,
    );
  }
}

if (values.json !== undefined)
  writeJsonFile(values.json, { dataset, steps, utterances: { heard: heard.length, unheard: unheard.length }, rows });

/** False when a signal stopped it. */
async function trainFloat(folder: string, seed: number): Promise<boolean> {
  const config = {
    model_type: "parakeet_rnnt",
    vocab_size: tokenizer.size,
    blank_token_id: tokenizer.blankId,
    pad_token_id: tokenizer.blankId,
    decoder_hidden_size: 64,
    num_decoder_layers: 1,
    encoder_config: {
      hidden_size: 96,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      intermediate_size: 384,
      subsampling_factor: 4,
      subsampling_conv_channels: 32,
      num_mel_bins: 80,
    },
  };
  const network = trainableNetwork({ network: describeModel(config as JsonObject, "config.json").network(new FreshWeights(seed)), folder });
  const cache = new FeatureCache(join(out as string, "features"), { model: config as JsonObject, preprocessor });
  await cache.prepare(heard, [1]);
  const batches = new SpeechBatches(heard, (text) => tokenizer.encode(text), cache, { seed, batchSeconds: 32 });
  const trainer = new Trainer(network, batches, {
    folder: `${folder}.run`,
    totalSteps: steps,
    seed,
    schedule: warmupCosine({ peak: 2e-3, warmupSteps: 100, totalSteps: steps, final: 2e-5 }),
    checkpoints: { everyMinutes: 1 },
  });
  trainer.resume();
  const { completed } = await trainer.run({ handleSignals: true });
  if (completed) write(folder, config, tokenizer, [...network.parameters(), ...network.buffers()]);
  trainer.dispose();
  return completed;
}

function write(folder: string, config: object, tokens: Tokenizer, weights: Parameters<typeof writeSafetensors>[1]): void {
  mkdirSync(folder, { recursive: true });
  parakeetFeaturesFrom(preprocessor, "preprocessor_config.json");
  writeJsonFile(join(folder, "config.json"), config);
  writeJsonFile(join(folder, "preprocessor_config.json"), preprocessor);
  tokens.save(folder);
  writeSafetensors(join(folder, "model.safetensors"), weights, { format: "pt" });
}
