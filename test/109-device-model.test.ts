import { assertClose, realGpu } from "./gpu.js";
import test from "ava";
import { join } from "node:path";
import { decodeAudio, DeviceTensor, loadModel, Recognizer, SequenceOffsets, Tensor, tidy } from "../lib/index.js";
import { defaultModelFolder } from "../lib/models/default_model.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

/** Logits of a model on the CPU in float32, and on the GPU in bfloat16; or in whole numbers on both. */
function logits(
  folder: string,
  lengths: readonly number[],
  arithmetic: "bfloat16" | "int8" = "bfloat16",
): { cpu: Float32Array; gpu: Float32Array; classes: number } {
  return tidy(() => {
    const onGpu = loadModel(folder, { device: "cuda", arithmetic }).network as CtcNetwork;
    const onCpu = loadModel(folder, { weights: arithmetic === "int8" ? "packed" : "float32" }).network as CtcNetwork;
    const offsets = new SequenceOffsets(lengths);
    const features = Tensor.from(randomValues(offsets.frames * 128, 1), [offsets.frames, 128]);
    const cpu = onCpu.forward(features, offsets).logits;
    const gpu = onGpu.forward(DeviceTensor.from(features), offsets).logits;
    return { cpu: cpu.toArray(), gpu: gpu.toArray(), classes: cpu.dim(1) };
  });
}

function agree(t: Parameters<typeof assertClose>[0], { cpu, gpu, classes }: ReturnType<typeof logits>, what: string): void {
  assertClose(t, gpu, cpu, 2e-2, what);
  const best = (values: Float32Array): number[] =>
    Array.from({ length: values.length / classes }, (_, frame) => {
      const row = values.subarray(frame * classes, (frame + 1) * classes);
      return row.indexOf(row.reduce((most, value) => Math.max(most, value)));
    });
  const [a, b] = [best(cpu), best(gpu)];
  // Tokens that the CPU finds as good within that tolerance may change places.
  const tolerance = 2e-2 * cpu.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const worse = (frame: number): number =>
    (cpu[frame * classes + (a[frame] as number)] as number) - (cpu[frame * classes + (b[frame] as number)] as number);
  const same = a.filter((_, frame) => worse(frame) <= tolerance).length;
  t.true(same >= 0.95 * a.length, `${what}: ${same} of ${a.length} frames have the same best token, or one as good`);
}

test("a model of float weights computes on the GPU what it computes on the CPU", (t) => {
  const folder = temporaryFolder("device-model");
  t.teardown(folder.clean);
  agree(t, logits(writeTinyModel(join(folder.path, "model")), [40, 61]), "two sequences");
});

test("so does the model of the package, with packed weights", (t) => {
  agree(t, logits(defaultModelFolder, realGpu ? [1000, 370, 2100] : [40]), "default model");
});

test("and so it does in whole numbers", (t) => {
  const both = logits(defaultModelFolder, realGpu ? [1000, 370] : [40], "int8");
  assertClose(t, both.gpu, both.cpu, 5e-2, "default model");
  t.notDeepEqual(both.gpu, logits(defaultModelFolder, realGpu ? [1000, 370] : [40]).gpu);
});

test("speech is transcribed alike on both", async (t) => {
  const clip = join(defaultModelFolder, "..", "..", "examples", "librispeech-1089-134691-0000.flac");
  const { samples } = await decodeAudio(clip);
  const heard = (device: "cpu" | "cuda"): string => {
    const model = loadModel(defaultModelFolder, { device, weights: device === "cuda" ? "packed" : "float32" });
    return new Recognizer(model, { decoder: "greedy" }).transcribe(realGpu ? samples : samples.subarray(0, 20_000)).text;
  };
  t.true(heard("cpu").length > 5);
  t.is(heard("cuda"), heard("cpu"));
});

test("operands have to be on the same device", (t) => {
  const network = loadModel(defaultModelFolder).network as CtcNetwork;
  t.throws(() => network.forward(DeviceTensor.zeros([40, 128]), new SequenceOffsets([40])), {
    code: "INVALID_ARGUMENT",
    message: /load the model with device "cuda"/,
  });
});
