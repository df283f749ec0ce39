/**
 * Suite `encoder-cuda`: a whole Conformer-CTC of the LASR family on a GPU, from features on the GPU to logits there, with
 * random weights in every form, beside the same model in PyTorch.
 */
import { DeviceTensor } from "../../lib/device/device_tensor.js";
import { gpuInformation, gpuMemoryStatistics, hasGpu } from "../../lib/device/gpu.js";
import { synchronizeGpu } from "../../lib/device/device_stream.js";
import { formatLasrConfig } from "../../lib/models/lasr/lasr_config.js";
import type { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import { PytorchPeer } from "../peers/pytorch.js";
import { randomNetwork } from "../random_network.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const melBins = 128;
/** Conformer L of Gulati et al. 2020: 118 million weights. */
const conformerL = { name: "conformer-l", size: { hidden: 512, layers: 17, heads: 8, vocabulary: 1024, convolutionKernel: 32 } };
const emulated = { name: "tiny", size: { hidden: 32, layers: 1, heads: 2, vocabulary: 32, convolutionKernel: 5 } };
const specs = ["int4+2:4", "float32", "int4", "int8", "2:4"];

interface Loaded {
  readonly spec: string;
  readonly network: LasrForCtc;
  readonly weightBytes: number;
}

export const encoderCuda: BenchmarkSuite = {
  name: "encoder-cuda",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("encoder-cuda skipped: there is no GPU");
    const small = gpuInformation().emulated;
    const { name, size } = small ? emulated : conformerL;
    const [seconds, batches] = small ? [1, [1]] : [15, [1, 8, 32]];
    const networks = specs.map((spec): Loaded => {
      const before = gpuMemoryStatistics().bytesInUse;
      const network = randomNetwork(size, spec, "cuda");
      forwardPass(network, features(1, 1)); // places the weights
      return { spec, network, weightBytes: gpuMemoryStatistics().bytesInUse - before };
    });
    const peer = small ? undefined : await PytorchPeer.start("encoder_cuda.py", [formatLasrConfig((networks[0] as Loaded).network.config)], context.log);
    try {
      for (const batch of batches) await measure(context, `${name}, ${batch} x ${seconds} s`, batch, seconds, networks, peer);
    } finally {
      peer?.stop();
      for (const { network } of networks) network.dispose();
    }
  },
};

const features = (batch: number, seconds: number): { x: DeviceTensor; offsets: SequenceOffsets } => {
  const lengths = Array<number>(batch).fill(seconds * 100);
  const values = Float32Array.from({ length: batch * seconds * 100 * melBins }, (_, i) => Math.sin(i * 0.37));
  using x = Tensor.from(values, [batch * seconds * 100, melBins]);
  return { x: DeviceTensor.from(x), offsets: new SequenceOffsets(lengths) };
};

function forwardPass(network: LasrForCtc, { x, offsets }: ReturnType<typeof features>): void {
  tidy(() => void network.forward(x, offsets));
  synchronizeGpu();
}

async function measure(
  context: BenchmarkContext,
  name: string,
  batch: number,
  seconds: number,
  networks: readonly Loaded[],
  peer: PytorchPeer | undefined,
): Promise<void> {
  const input = features(batch, seconds);
  const contestants = networks.map(({ spec, network }): Contestant => ({
    impl: "usm-lite",
    spec: spec === "float32" ? "bfloat16" : spec,
    run: (repetitions) => timed(() => forwardPass(network, input), repetitions),
  }));
  if (peer) {
    const { torch } = peer.introduction as { torch: string };
    contestants.push({
      impl: `PyTorch ${torch}`,
      spec: "bfloat16",
      note: "transformers LasrForCTC, eager with scaled-dot-product attention",
      run: async (repetitions) => (await peer.ask(`${batch} ${seconds * 100} ${repetitions}`)) as number[],
    });
  }
  const timings = await measureInTurn(contestants, { rounds: 3, millisecondsPerTurn: 60, millisecondsBetween: 1 });
  timings.forEach((timing, index) => {
    const { impl, spec, note } = contestants[index] as Contestant;
    const weightBytes = networks[index]?.weightBytes;
    context.record({
      suite: "encoder-cuda",
      case: name,
      impl,
      spec,
      device: "cuda",
      threads: 1,
      ...timing,
      rtfx: (batch * seconds) / (timing.ms / 1000),
      ...(weightBytes !== undefined && { weightBytes }),
      ...(note !== undefined && { note }),
    });
  });
  input.x.dispose();
}
