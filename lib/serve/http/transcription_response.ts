/** What a transcription request gets back, in each of the formats of OpenAI's API. */
import type { RecognizedSpeech } from "../../transcribe/decoding.js";
import { formatTranscript, verboseTranscript } from "../../text/transcript_formats.js";
import type { Vocabulary } from "../../transcribe/worker_messages.js";
import type { Heard } from "../engine/dispatcher.js";
import type { TranscriptionRequest } from "./transcription_request.js";

export interface Rendered {
  readonly contentType: string;
  readonly body: string;
}

const contentTypes = {
  text: "text/plain; charset=utf-8",
  srt: "application/x-subrip; charset=utf-8",
  vtt: "text/vtt; charset=utf-8",
} as const;

/** @param language the name of the language, such as "english" */
export function renderTranscript({ speech, vocabulary }: Heard, request: TranscriptionRequest, language: string): Rendered {
  const { format, granularities, logprobs } = request;
  if (format === "json")
    return json({ text: speech.text, ...(logprobs ? { logprobs: logprobsOf(speech, vocabulary) } : {}), usage: usageOf(speech) });
  if (format === "verbose_json") {
    const { segments, words, ...verbose } = verboseTranscript({ ...speech, language });
    return json({
      task: "transcribe",
      ...verbose,
      ...(granularities.has("segment") ? { segments } : {}),
      ...(granularities.has("word") ? { words } : {}),
    });
  }
  return { contentType: contentTypes[format], body: formatTranscript(speech, format) };
}

const json = (value: unknown): Rendered => ({ contentType: "application/json; charset=utf-8", body: JSON.stringify(value) });

export const usageOf = ({ duration }: RecognizedSpeech) => ({ type: "duration" as const, seconds: Math.ceil(duration) });

/** Each token with its UTF-8 bytes and the natural logarithm of its confidence. */
export function logprobsOf({ tokens }: RecognizedSpeech, vocabulary: Vocabulary) {
  return tokens.flatMap(({ id, confidence }) => {
    const token = vocabulary[id] ?? null;
    if (token === null) return [];
    return { token, bytes: [...Buffer.from(token, "utf8")], logprob: Math.log(Math.max(confidence, 1e-30)) };
  });
}
