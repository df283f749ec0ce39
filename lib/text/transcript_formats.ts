/** Transcripts as plain text, JSON, OpenAI's verbose JSON, SubRip and WebVTT. */
import { deflateSync } from "node:zlib";
import { UsmLiteError } from "../errors.js";

/**
 * Forms in which a transcript can be written.
 *
 * @example
 * for (const format of transcriptFormats) writeFileSync(`speech.${format}`, formatTranscript(transcript, format));
 */
export const transcriptFormats = ["text", "json", "verbose_json", "srt", "vtt"] as const;
/** One of {@link transcriptFormats}. */
export type TranscriptFormat = (typeof transcriptFormats)[number];

/** A word with its time in seconds. */
export interface TimedWord {
  readonly word: string;
  readonly start: number;
  readonly end: number;
  /** In [0, 1]. */
  readonly confidence: number;
}

/** What {@link formatTranscript} writes. */
export interface Transcript {
  readonly text: string;
  readonly words: readonly TimedWord[];
  /** Seconds of audio. */
  readonly duration: number;
  /** As OpenAI names it; default "english". */
  readonly language?: string;
  /** Piece ids and the times they were spoken at, for the `tokens` of verbose JSON segments. */
  readonly tokens?: readonly { readonly id: number; readonly start: number }[];
}

export interface SegmentOptions {
  /** A silence of so many seconds between two words begins a new segment; default 0.8. */
  readonly pause?: number;
  /** No segment is longer than so many seconds, unless its only word is; default 7. */
  readonly maximumSeconds?: number;
}

/** Consecutive words that are shown together. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly words: readonly TimedWord[];
  /** One or two lines of at most 42 characters; a word longer than that has a line of its own. */
  readonly lines: readonly string[];
}

const LINE_CHARACTERS = 42;
const LINES = 2;

/** Splits words at pauses, and where two subtitle lines or the longest duration are full. */
export function segmentWords(words: readonly TimedWord[], options: SegmentOptions = {}): Segment[] {
  const { pause = 0.8, maximumSeconds = 7 } = options;
  const segments: Segment[] = [];
  let open: TimedWord[] = [];
  const close = (): void => {
    const first = open[0];
    const last = open.at(-1);
    if (first && last) segments.push({ start: first.start, end: Math.max(first.start, last.end), words: open, lines: linesOf(open) });
    open = [];
  };
  for (const word of words) {
    const first = open[0];
    const last = open.at(-1);
    if (
      first &&
      last &&
      (word.start - last.end >= pause || word.end - first.start > maximumSeconds || linesOf([...open, word]).length > LINES)
    ) {
      close();
    }
    open.push(word);
  }
  close();
  return segments;
}

/**
 * Renders a transcript. All formats but `json` and `verbose_json` end with a line break.
 * @throws UsmLiteError INVALID_ARGUMENT for an unknown format
 *
 * @example
 * writeFileSync("speech.srt", formatTranscript(await transcriber.transcribe("speech.flac"), "srt"));
 */
export function formatTranscript(transcript: Transcript, format: TranscriptFormat, options: SegmentOptions = {}): string {
  switch (format) {
    case "text":
      return `${transcript.text}\n`;
    case "json":
      return JSON.stringify({ text: transcript.text });
    case "verbose_json":
      return JSON.stringify(verboseTranscript(transcript, options));
    case "srt":
      return segmentWords(transcript.words, options)
        .map(({ start, end, lines }, index) => `${index + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${lines.join("\n")}\n`)
        .join("\n");
    case "vtt":
      return ["WEBVTT\n"]
        .concat(
          segmentWords(transcript.words, options).map(
            ({ start, end, lines }) => `${clock(start, ".")} --> ${clock(end, ".")}\n${escapeCue(lines.join("\n"))}\n`,
          ),
        )
        .join("\n");
    default:
      throw new UsmLiteError("INVALID_ARGUMENT", `format ${JSON.stringify(format)} is unknown; choose ${transcriptFormats.join(", ")}`);
  }
}

/**
 * OpenAI's `TranscriptionVerbose` with segments and words. There is no voice activity behind it: `no_speech_prob` is 0,
 * as segments hold words only; `seek` is the start in hundredths of a second.
 */
export function verboseTranscript(transcript: Transcript, options: SegmentOptions = {}) {
  const segments = segmentWords(transcript.words, options);
  return {
    duration: transcript.duration,
    language: transcript.language ?? "english",
    text: transcript.text,
    segments: segments.map(({ start, end, words }, id) => {
      const text = words.map(({ word }) => word).join(" ");
      const next = segments[id + 1]?.start ?? Infinity;
      const from = id === 0 ? -Infinity : start;
      return {
        id,
        seek: Math.round(start * 100),
        start,
        end,
        text,
        tokens: (transcript.tokens ?? []).filter((token) => token.start >= from && token.start < next).map((token) => token.id),
        temperature: 0,
        avg_logprob: words.reduce((sum, { confidence }) => sum + Math.log(confidence), 0) / words.length,
        compression_ratio: compressionRatio(text),
        no_speech_prob: 0,
      };
    }),
    words: transcript.words.map(({ word, start, end }) => ({ word, start, end })),
    usage: { type: "duration" as const, seconds: Math.ceil(transcript.duration) },
  };
}

/** Greedy filling of lines; two lines are then balanced, so that the first is not much longer than the second. */
function linesOf(words: readonly TimedWord[]): string[] {
  const fill = (width: number): string[] => {
    const lines: string[] = [];
    for (const { word } of words) {
      const line = lines.at(-1);
      if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
      else lines.push(word);
    }
    return lines;
  };
  const lines = fill(LINE_CHARACTERS);
  if (lines.length !== LINES) return lines;
  const half = Math.ceil(lines.join(" ").length / 2);
  for (let width = half; width < LINE_CHARACTERS; width++) {
    const balanced = fill(width);
    if (balanced.length <= LINES) return balanced;
  }
  return lines;
}

/** How many times zlib makes a text smaller, as Whisper reports it: high values mean repetition. */
function compressionRatio(text: string): number {
  const bytes = Buffer.from(text, "utf8");
  return bytes.length / deflateSync(bytes).length;
}

/** HH:MM:SS and milliseconds. */
function clock(seconds: number, separator: string): string {
  const milliseconds = Math.max(0, Math.round(seconds * 1000));
  const part = (unit: number, count: number, digits: number): string =>
    String(Math.floor(milliseconds / unit) % count).padStart(digits, "0");
  return `${part(3_600_000, Infinity, 2)}:${part(60_000, 60, 2)}:${part(1000, 60, 2)}${separator}${part(1, 1000, 3)}`;
}

const escapeCue = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
