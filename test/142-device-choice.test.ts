import { realGpu } from "./gpu.js";
import test from "ava";
import { mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { gpuMemoryStatistics, loadModel, readSafetensors, Tensor, writeSafetensors } from "../lib/index.js";
import { defaultModelFolder } from "../lib/models/default_model.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
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

test("a model of widths that kernels do not take stays on the CPU", (t) => {
  const encoder = {
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    intermediate_size: 24,
    subsampling_conv_channels: 8,
    num_mel_bins: 16,
  };
  const changes = [{}, { num_mel_bins: 13 }, { subsampling_conv_channels: 9 }, { intermediate_size: 20 }, { hidden_size: 12, head_dim: 16 }];
  const devices = changes.map((change, index) => {
    const config = { model_type: "lasr_ctc", vocab_size: 5, encoder_config: { ...encoder, ...change } };
    const model = writeRandomModel(join(folder.path, `widths-${index}`), config, {
      feature_size: config.encoder_config.num_mel_bins,
    });
    if (index > 0) t.throws(() => loadModel(model, { device: "cuda" }), { code: "UNSUPPORTED_MODEL", message: /on the CPU only/ });
    return loadModel(model, { device: "auto" }).device;
  });
  t.deepEqual(devices, ["cuda", "cpu", "cpu", "cpu", "cpu"]);
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
  const { status, stderr } = await usmLiteHere("forward", "--model", tiny, "--device", "cuda", "--input", input, "--output", output);
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
