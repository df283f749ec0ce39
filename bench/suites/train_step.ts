/**
 * Suite `train-step`: forward, backward and AdamW on one batch, beside transformers' LasrForCTC in PyTorch; and the same with
 * weights that are pruned and quantized in the forward pass, in floats and in whole numbers.
 */
import { setThreadCount, threadCount } from "../../lib/native/runtime.js";
import { RandomStream } from "../../lib/ops/random_stream.js";
import { Tape } from "../../lib/ops/tape.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import type { IntegerWeight } from "../../lib/ops/integer_linear.js";
import type { ActivationCoding } from "../../lib/quant/activation_coding.js";
import { parseWeightSpec } from "../../lib/quant/weight_spec.js";
import { AdamW } from "../../lib/train/optimizer.js";
import type { TrainableModel } from "../../lib/train/trainable_model.js";
import type { TrainingModifier } from "../../lib/train/training_modifier.js";
import { WeightPruning } from "../../lib/train/weight_pruning.js";
import { WeightQuantization } from "../../lib/train/weight_quantization.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import { PytorchPeer } from "../peers/pytorch.js";
import { randomNetwork } from "../random_network.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const size = { hidden: 144, layers: 8, heads: 4, vocabulary: 64, convolutionKernel: 15 };
// 60 s of speech: utterances of equal length, so that the peer pads nothing.
const seconds = Array.from({ length: 15 }, () => 4);
const labelsPerUtterance = 40;

export const trainStep: BenchmarkSuite = {
  name: "train-step",
  async run(context: BenchmarkContext): Promise<void> {
    const threadsBefore = threadCount();
    for (const threads of context.threads) {
      setThreadCount(threads);
      const peer = await startPeer(threads, context.log);
      const contestants = [...compressions.map(ours), ...(peer ? [peer] : [])];
      const timings = await measureInTurn(contestants, { rounds: 5, millisecondsPerTurn: 1500 });
      timings.forEach((timing, index) => {
        const { impl, spec, note } = contestants[index] as Contestant;
        context.record({
          suite: "train-step",
          case: "4M parameters, 60 s",
          impl,
          spec,
          device: "cpu",
          threads,
          ...timing,
          ...(note ? { note } : {}),
        });
      });
    }
    setThreadCount(threadsBefore);
  },
};

/** What happens to the weights of the blocks in every forward pass. */
interface StepCompression {
  readonly spec: string;
  readonly activations?: ActivationCoding;
}

const compressions: readonly StepCompression[] = [
  { spec: "float32" },
  { spec: "int4" },
  { spec: "int4+2:4" },
  { spec: "int4+2:4", activations: "int8" },
];

function modifiersOf(
  network: TrainableModel & { blockWeights(): readonly string[] },
  { spec: text, activations }: StepCompression,
): TrainingModifier[] {
  const spec = parseWeightSpec(text);
  const { sparsity } = spec;
  if (spec.bits === 32) return [];
  const names = network.blockWeights();
  const pruning = sparsity && new WeightPruning(network, new Map(names.map((name) => [name, sparsity])));
  const quantization = new WeightQuantization(network, new Map(names.map((name) => [name, spec])), {
    ...(pruning ? { masks: pruning.masks } : {}),
    ...(activations ? { activations } : {}),
  });
  return [...(pruning ? [pruning] : []), quantization];
}

function ours(compression: StepCompression): Contestant {
  const network = randomNetwork(size, "float32");
  for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
  const optimizer = new AdamW(network.parameters());
  const random = new RandomStream(1);
  const modifiers = modifiersOf(network, compression);
  for (const modifier of modifiers) modifier.beforeStep?.(0, random); // masks once, as in nearly all steps
  const transformWeight = (name: string, weight: Tensor): Tensor =>
    modifiers.reduce((made, modifier) => modifier.transformWeight?.(name, made, "training") ?? made, weight);
  const packedWeight = (name: string, weight: Tensor): IntegerWeight | undefined => modifiers.at(-1)?.packedWeight?.(name, weight);
  const lengths = seconds.map((length) => length * 100);
  const frames = lengths.reduce((a, b) => a + b, 0);
  const features = Float32Array.from({ length: frames * 128 }, (_, i) => Math.sin(i * 0.37));
  const targets = lengths.map((_, item) =>
    Array.from({ length: labelsPerUtterance }, (_, i) => 1 + ((i * 7 + item) % (size.vocabulary - 1))),
  );
  const step = (): void => {
    using tape = new Tape();
    tidy(() => {
      const batch = {
        features: Tensor.from(features, [frames, 128]),
        offsets: new SequenceOffsets(lengths),
        targets,
        audioSeconds: frames / 100,
      };
      tape.backward(tape.record(() => network.loss(batch, { training: true, random, step: 0, transformWeight, packedWeight })).loss);
    });
    optimizer.step((parameter) => tape.gradientOf(parameter), 1e-4, { maximumNorm: 1 });
    for (const modifier of modifiers) modifier.afterStep?.(0, false);
  };
  return {
    impl: "usm-lite",
    spec: compression.spec,
    ...(compression.activations ? { note: `products of whole numbers, activations ${compression.activations}` } : {}),
    run: (repetitions) => timed(step, repetitions),
    dispose: () => {
      for (const modifier of modifiers) modifier.dispose?.();
      optimizer.dispose();
      network.dispose();
    },
  };
}

async function startPeer(threads: number, log: (line: string) => void): Promise<Contestant | undefined> {
  const words = [threads, size.hidden, size.layers, size.vocabulary, ...seconds].map(String);
  const peer = await PytorchPeer.start("train_step.py", words, log);
  if (!peer) return undefined;
  const { torch, parameters } = peer.introduction as { torch: string; parameters: number };
  return {
    impl: `PyTorch ${torch}`,
    spec: "float32",
    note: `transformers LasrForCTC, ${parameters} parameters`,
    run: async (repetitions) => (await peer.ask(String(repetitions))) as number[],
    dispose: () => peer.stop(),
  };
}
