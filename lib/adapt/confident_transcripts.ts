/** Speech without transcripts: what the model itself hears, where it is sure (self-training, Kahn et al., ICASSP 2020). */
import type { Utterance } from "../data/manifest.js";
import { readUtterance } from "../data/utterance_audio.js";
import type { Recognizer } from "../transcribe/recognizer.js";
import type { Adapter } from "./adapter.js";
import { spokenText, type SpokenText } from "./speaker_speech.js";

/** Of the utterances, the share that the model is surest of is trusted. */
const trustedShare = 0.7;

/**
 * Utterances with what the model hears in them: the surer ones, by the mean logarithm of the confidence of their tokens.
 * @param adapter what the model listens with
 * @throws UsmLiteError errors of audio files, naming manifest line and file
 */
export async function confidentTranscripts(
  recognizer: Recognizer,
  utterances: readonly Utterance[],
  adapter?: Adapter,
): Promise<{ spoken: SpokenText[]; unsure: number }> {
  const heard: { spoken: SpokenText; confidence: number; index: number }[] = [];
  for (const [index, utterance] of utterances.entries()) {
    const samples = await readUtterance(utterance);
    const [speech] = recognizer.transcribeBatch([samples], undefined, adapter);
    if (!speech || speech.text === "" || speech.tokens.length === 0) continue;
    const confidence = speech.tokens.reduce((sum, token) => sum + Math.log(Math.max(token.confidence, 1e-6)), 0) / speech.tokens.length;
    heard.push({ spoken: spokenText(recognizer.model, samples, speech.text, utterance.source), confidence, index });
  }
  const trusted = [...heard].sort((a, b) => b.confidence - a.confidence).slice(0, Math.ceil(trustedShare * heard.length));
  const spoken = trusted.sort((a, b) => a.index - b.index).map((one) => one.spoken);
  return { spoken, unsure: utterances.length - spoken.length };
}
