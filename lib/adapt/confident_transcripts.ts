/** Speech without transcripts: what the model itself hears, where it is sure (self-training, Kahn et al., ICASSP 2020). */
import type { Utterance } from "../data/manifest.js";
import { readUtterance } from "../data/utterance_audio.js";
import { transcriptEncoder } from "../models/transcript_encoder.js";
import { normalizeText } from "../text/normalize.js";
import type { Recognizer } from "../transcribe/recognizer.js";
import type { Adapter } from "./adapter.js";
import { heardWhole, spokenText, writtenWhole, type SpeechReading, type SpokenText } from "./speaker_speech.js";

/** Of the utterances, the share that the model is surest of is trusted. */
const trustedShare = 0.7;

/**
 * Utterances with what the model hears in them: the surer ones, by the mean logarithm of the confidence of their tokens.
 * @param adapter what the model listens with
 * @throws UsmLiteError BAD_MANIFEST when all are longer than a window; errors of audio files, naming manifest line and file
 */
export async function confidentTranscripts(
  recognizer: Recognizer,
  utterances: readonly Utterance[],
  { adapter, ...reading }: SpeechReading & { readonly adapter?: Adapter | undefined } = {},
): Promise<{ spoken: SpokenText[]; unsure: number }> {
  const { model } = recognizer;
  const encode = transcriptEncoder(model, reading.language);
  const heard: { spoken: SpokenText; confidence: number; index: number }[] = [];
  const whole = heardWhole(model, utterances, reading);
  for (const [index, utterance] of whole.entries()) {
    const samples = await readUtterance(utterance, model.frontEnd.config.samplingRate);
    const [speech] = recognizer.transcribeBatch([samples], undefined, adapter);
    if (!speech || normalizeText(speech.text) === "" || speech.tokens.length === 0) continue; // no word
    const confidence = speech.tokens.reduce((sum, token) => sum + Math.log(Math.max(token.confidence, 1e-6)), 0) / speech.tokens.length;
    heard.push({ spoken: spokenText(model, encode, { samples, text: speech.text, source: utterance.source }), confidence, index });
  }
  const trusted = [...heard].sort((a, b) => b.confidence - a.confidence).slice(0, Math.ceil(trustedShare * heard.length));
  const spoken = writtenWhole(
    model,
    trusted.sort((a, b) => a.index - b.index).map((one) => one.spoken),
    reading,
  );
  return { spoken, unsure: whole.length - spoken.length };
}
