/** Little memory, and adapters that are too large to compute with, on the GPU. */
import { realGpu } from "./gpu.js";
import { copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { Adapter, AdapterBase, loadModel, Recognizer, Tensor } from "../lib/index.js";
import { keep } from "../lib/tensor/scope.js";
import { tinyFastConformer } from "./family_models.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

// Enough for a pass over the longest clip below, and for one of its recordings, but not for those of all.
process.env["USMLITE_EMULATED_MEMORY"] = "1500000";
const folder = temporaryFolder("device-faults");
test.after.always(folder.clean);
const tokenizer = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text", "tokenizer_metaspace.json");

(realGpu ? test.skip : test.serial)("where there is no memory for recordings passes are computed without", (t) => {
  const model = writeTinyModel(join(folder.path, "model"));
  const recognizer = new Recognizer(loadModel(model, { device: "cuda" }), { decoder: "greedy" });
  const clips = [6, 2.6, 3.5, 4.4, 5.3].map((seconds) => tones(seconds, 1));
  const heard = clips.map((clip) => [1, 2, 3].map(() => recognizer.transcribe(clip).text));
  for (const [first, ...again] of heard) t.deepEqual(again, [first, first]);
  t.deepEqual(
    clips.map((clip) => recognizer.transcribe(clip).text),
    heard.map(([text]) => text),
  );
});

test.serial("scores that an adapter makes too large are the adapter's fault, also where a transducer is decoded on the GPU", (t) => {
  const sizes = { vocab_size: 61, blank_token_id: 60, decoder_hidden_size: 16, encoder_config: tinyFastConformer };
  const config = { model_type: "parakeet_tdt", ...sizes, durations: [0, 1, 2] };
  const path = writeRandomModel(join(folder.path, "tdt"), config, { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 16 });
  copyFileSync(tokenizer, join(path, "tokenizer.json"));
  const model = loadModel(path, { device: "cuda" });
  const recognizer = new Recognizer(model, { decoder: "greedy" });
  const [[name, [out, input]]] = [...new AdapterBase(model).layers] as [[string, readonly [number, number]]];
  const large = (size: number, shape: readonly [number, number]): Tensor => keep(Tensor.from(new Float32Array(size).fill(1e30), shape));
  using adapter = new Adapter(new Map([[name, { down: large(input, [1, input]), up: large(out, [1, out]) }]]));
  t.throws(() => recognizer.transcribeBatch([tones(0.9, 1)], undefined, [adapter]), {
    code: "BAD_ADAPTER",
    message: /not numbers: the factors of the speaker's adapter are too large/,
  });
});
