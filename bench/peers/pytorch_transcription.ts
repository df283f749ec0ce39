/** transformers' LasrForCTC in PyTorch with the weights of one of our models, as contestants of the suite transcribe. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeTextFile } from "../../lib/checkpoint/atomic_file.js";
import { writeSafetensors, type SafetensorsEntry } from "../../lib/checkpoint/safetensors_writer.js";
import { formatLasrConfig } from "../../lib/models/lasr/lasr_config.js";
import type { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { modelFiles } from "../../lib/models/model_folder.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import type { Contestant } from "../measure.js";
import { PytorchPeer } from "./pytorch.js";

const specs = ["float32", "int8-dynamic"] as const;

/** The float checkpoint and the features, in a temporary folder while this lives. */
export class PytorchTranscription {
  private readonly folder = mkdtempSync(join(tmpdir(), "usm-lite-bench-"));
  private readonly recorded = join(this.folder, "features.safetensors");
  private peer: PytorchPeer | undefined;

  /** @param features log-mel frames of each utterance, (frames, mel bins) */
  constructor(network: LasrForCtc, features: readonly Float32Array[]) {
    const { usm_lite: _, ...config } = network.config;
    writeTextFile(join(this.folder, modelFiles.config), formatLasrConfig(config));
    const weights = [...network.parameters(), ...network.buffers()];
    writeSafetensors(join(this.folder, modelFiles.weights), weights, { format: "pt" });
    writeSafetensors(this.recorded, recordedInput(network, features), { format: "pt" });
  }

  async start(threads: number, log: (line: string) => void): Promise<void> {
    this.peer = await PytorchPeer.start("transcribe.py", [String(threads), this.folder, this.recorded], log);
  }

  /** None when Python lacks what the peer needs. @param batch utterances of one call: one, or all */
  contestants(batch: number): Contestant[] {
    const { peer } = this;
    if (!peer) return [];
    const { torch, agreement } = peer.introduction as { torch: string; agreement: Record<string, number> };
    const percent = (spec: string): string => (100 * (agreement[spec] as number)).toFixed(1);
    return specs.map((spec) => ({
      impl: `PyTorch ${torch}`,
      spec,
      note: `transformers LasrForCTC; ${percent(spec)} % of frames choose the token of usm-lite float32`,
      run: async (repetitions) => (await peer.ask(`${spec} ${batch} ${repetitions}`)) as number[],
    }));
  }

  stop(): void {
    this.peer?.stop();
    this.peer = undefined;
  }

  dispose(): void {
    this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** `input_features` padded to the longest, `attention_mask`, and `tokens`: our best token of each encoder frame. */
function recordedInput(network: LasrForCtc, features: readonly Float32Array[]): [string, SafetensorsEntry][] {
  const bins = network.config.encoder_config.num_mel_bins;
  const lengths = features.map((values) => values.length / bins);
  const longest = Math.max(...lengths);
  const padded = new Float32Array(features.length * longest * bins);
  features.forEach((values, item) => padded.set(values, item * longest * bins));
  const mask = BigInt64Array.from({ length: features.length * longest }, (_, i) =>
    i % longest < (lengths[Math.floor(i / longest)] as number) ? 1n : 0n,
  );
  const tokens = features.flatMap((values) => bestTokens(network, values));
  return [
    ["input_features", { dtype: "F32", shape: [features.length, longest, bins], data: padded }],
    ["attention_mask", { dtype: "I64", shape: [features.length, longest], data: mask }],
    ["tokens", { dtype: "I64", shape: [tokens.length], data: BigInt64Array.from(tokens, BigInt) }],
  ];
}

function bestTokens(network: LasrForCtc, features: Float32Array): number[] {
  const bins = network.config.encoder_config.num_mel_bins;
  const vocabulary = network.config.vocab_size;
  const frames = features.length / bins;
  const logits = tidy(() => network.forward(Tensor.from(features, [frames, bins]), new SequenceOffsets([frames])).logits.toArray());
  return Array.from({ length: logits.length / vocabulary }, (_, frame) => {
    const row = logits.subarray(frame * vocabulary, (frame + 1) * vocabulary);
    return row.indexOf(Math.max(...row));
  });
}
