import { realGpu } from "./gpu.js";
import test from "ava";
import { mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { gpuMemoryStatistics, loadModel, readSafetensors, Tensor, writeSafetensors } from "../lib/index.js";
import { defaultModelFolder } from "../lib/models/default_model.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import { usmLite } from "./command_line.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("device-choice");
test.after.always(folder.clean);
const tiny = writeTinyModel(join(folder.path, "model"), { languageModel: false });

/** The model of the package without what takes long to load. */
const packed = join(folder.path, "packed");
mkdirSync(packed);
for (const file of readdirSync(defaultModelFolder).filter((name) => !name.startsWith("language_model")))
  symlinkSync(join(defaultModelFolder, file), join(packed, file));

test("auto takes the GPU, whose kernels take this model", (t) => {
  t.is(loadModel(tiny, { device: "auto" }).device, "cuda");
  t.is(loadModel(tiny).device, "cpu");
});

test("a second worker's model takes no memory of the GPU for packed weights", (t) => {
  const first = loadModel(packed, { device: "cuda" });
  const before = gpuMemoryStatistics().bytesInUse;
  const second = loadModel(packed, { device: "cuda", sharedMatrices: first.shareMatrices() });
  t.is(gpuMemoryStatistics().bytesInUse, before);
  const onCpu = loadModel(packed, { sharedMatrices: first.shareMatrices() }); // numbers of the GPU mean nothing to the CPU
  t.is(onCpu.device, "cpu");
  first.network.dispose();
  t.is(gpuMemoryStatistics().bytesInUse, before);
  second.network.dispose();
  t.true(gpuMemoryStatistics().bytesInUse < before);
});

test("forward writes what the GPU computes", async (t) => {
  const [input, output] = ["input", "output"].map((name) => join(folder.path, `${name}.safetensors`)) as [string, string];
  const features = Tensor.from(randomValues(40 * 128, 1), [1, 40, 128]);
  writeSafetensors(input, [["input_features", features]], { format: "pt" });
  const { status, stderr } = await usmLite("forward", "--model", tiny, "--device", "cuda", "--input", input, "--output", output);
  t.is(status, 0, stderr);
  using written = readSafetensors(output);
  using read = readSafetensors(input);
  const onGpu = new Map(paddedForward(loadModel(tiny, { device: "cuda" }).network, read, { device: "cuda" }));
  t.deepEqual(written.values("logits"), (onGpu.get("logits") as unknown as { data: Float32Array }).data);
});

(realGpu ? test.skip : test)("a GPU that is not there is a coded error", async (t) => {
  const input = join(folder.path, "none.safetensors");
  const { status, stderr } = await usmLite("forward", "--model", tiny, "--device", "cuda:3", "--input", input, "--output", input);
  t.is(status, 1);
  t.regex(stderr, /\[NO_GPU\]/);
});
