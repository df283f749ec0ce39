/**
 * Writes a packed model as a float one, which training/pytorch/pretrain.py can start from.
 * usage: node training/pytorch/unpack.js PACKED FLOAT
 */
import "../../dist/lib/cli/one_line_failures.js";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder } from "../../dist/lib/checkpoint/atomic_folder.js";
import { writeJsonFile } from "../../dist/lib/checkpoint/json_file.js";
import { writeSafetensors } from "../../dist/lib/checkpoint/safetensors_writer.js";
import { loadModel, modelFiles } from "../../dist/lib/models/model_folder.js";

const [packed, out] = process.argv.slice(2);
if (!packed || !out) {
  console.error("usage: node training/pytorch/unpack.js PACKED FLOAT");
  process.exit(2);
}
const { network } = loadModel(packed, { weights: "float32" });
makeFolder(out);
const { usm_lite: _, ...config } = network.config;
writeJsonFile(join(out, modelFiles.config), config);
for (const file of [modelFiles.tokenizer, "tokenizer_config.json", modelFiles.preprocessor]) {
  copyFileSync(join(packed, file), join(out, file));
}
writeSafetensors(join(out, modelFiles.weights), [...network.parameters(), ...network.buffers()], { format: "pt" });
