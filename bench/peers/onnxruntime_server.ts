/**
 * A transcription server as it is commonly written around onnxruntime-node: each request is decoded, run by itself and
 * searched in the one process. Audio decoding, features and search are ours, so that only network and serving differ.
 *
 * Arguments: spec, threads. Writes where it listens, and how often its network agrees with ours.
 */
import multipart from "@fastify/multipart";
import fastify from "fastify";
import { decodeAudio } from "../../lib/audio/decode.js";
import { defaultModelFolder } from "../../lib/models/default_model.js";
import type { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { loadModel } from "../../lib/models/model_folder.js";
import { logSoftmax } from "../../lib/ops/softmax.js";
import { tidy } from "../../lib/tensor/scope.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { Recognizer } from "../../lib/transcribe/recognizer.js";
import { exampleSpeech } from "../example_speech.js";
import { conformerModel, rotaryTables, type OnnxSpec } from "./onnx_conformer.js";
import { OnnxRuntime } from "./onnxruntime.js";

const melBins = 128;
const longestFrames = 8000;
const [spec, threads] = process.argv.slice(2) as [OnnxSpec, string];
const runtime = OnnxRuntime.load();
if (!runtime) {
  console.log(JSON.stringify({ missing: "onnxruntime-node" }));
  process.exit(0);
}
const model = loadModel(defaultModelFolder, { weights: "float32" });
const network = model.network as LasrForCtc;
const recognizer = new Recognizer(model);
const run = await runtime.session(conformerModel(network, spec), Number(threads));
const tables = rotaryTables(network, longestFrames);
const dimension = tables.cosine.length / longestFrames;
const tokens = network.config.vocab_size;

async function logits(features: Float32Array): Promise<Float32Array> {
  const frames = features.length / melBins;
  const hidden = network.encoder.subsampler.outputLength(frames);
  const table = (values: Float32Array) => ({ values: values.subarray(0, hidden * dimension), shape: [hidden, dimension] });
  return run(
    { features: { values: features, shape: [frames, melBins] }, cosine: table(tables.cosine), sine: table(tables.sine) },
    "logits",
  );
}

const featuresOf = (samples: Float32Array): Float32Array => tidy(() => model.frontEnd.features(samples).toArray());

async function transcribe(samples: Float32Array): Promise<string> {
  const scores = await logits(featuresOf(samples));
  const frames = scores.length / tokens;
  const values = tidy(() => logSoftmax(Tensor.from(scores, [frames, tokens])).toArray());
  const decoding = recognizer.decoding();
  decoding.push({ firstFrame: 0, frames, tokens, values });
  return decoding.finish(samples.length).text;
}

/** Share of frames for which both networks choose the same token. */
async function agreement(): Promise<number> {
  const { utterances } = await exampleSpeech();
  const features = featuresOf(utterances.at(-1) as Float32Array);
  const theirs = await logits(features);
  const frames = features.length / melBins;
  const ours = tidy(() => network.forward(Tensor.from(features, [frames, melBins]), new SequenceOffsets([frames])).logits.toArray());
  const choice = (values: Float32Array, frame: number): number => {
    const row = values.subarray(frame * tokens, (frame + 1) * tokens);
    return row.indexOf(Math.max(...row));
  };
  const count = ours.length / tokens;
  return Array.from({ length: count }, (_, frame) => choice(ours, frame) === choice(theirs, frame)).filter(Boolean).length / count;
}

const app = fastify();
await app.register(multipart, { limits: { fileSize: 100 * 2 ** 20 } });
app.post("/v1/audio/transcriptions", async (request) => {
  for await (const part of request.parts()) {
    if (part.type !== "file") continue;
    const { samples } = await decodeAudio(await part.toBuffer());
    return { text: await transcribe(samples) };
  }
  throw new Error("there is no file");
});
const url = await app.listen({ host: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ url, impl: runtime.impl, agreement: await agreement() }));
process.on("disconnect", () => process.exit(0));
