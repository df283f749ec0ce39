/** The clip in examples/, repeated until it fills utterances of the lengths that people dictate in. */
import { join } from "node:path";
import { decodeAudio } from "../lib/audio/decode.js";
import { packageRoot } from "./package_root.js";

const clip = join(packageRoot, "examples", "librispeech-1089-134691-0000.flac");
/** Seconds of each utterance, 30 in all; as different as those of a batch of similar lengths. */
const lengths = [3, 3.25, 3.5, 3.75, 3.75, 4, 4.25, 4.5];

/** Mono samples of each utterance at 16 kHz. */
export async function exampleSpeech(): Promise<{ utterances: Float32Array[]; seconds: number }> {
  const { samples, sampleRate } = await decodeAudio(clip);
  const utterances = lengths.map((length) =>
    Float32Array.from({ length: length * sampleRate }, (_, i) => samples[i % samples.length] as number),
  );
  return { utterances, seconds: lengths.reduce((a, b) => a + b, 0) };
}
