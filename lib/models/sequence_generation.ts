/** How text is written by a sequence-to-sequence model: what its `generation_config.json` says, in the form that decoding takes. */
import { z } from "zod";
import { UsmLiteError } from "../errors.js";

export interface SequenceGeneration {
  /** Begins everything: Whisper's `<|startoftranscript|>`. */
  readonly startId: number;
  /** Ends the text: Whisper's `<|endoftext|>`. */
  readonly endId: number;
  /** Never said. */
  readonly suppressed: readonly number[];
  /** Never said first. */
  readonly suppressedFirst: readonly number[];
  /** Follows the start unless times are wanted; the ids after it are times, 0.02 s apart. Undefined: the tokenizer may know. */
  readonly noTimestampsId: number | undefined;
  /** Latest first time, as an index of times. */
  readonly latestFirstTime: number | undefined;
  /** Tokens that the decoder has places for, prompt included. */
  readonly positions: number;
  /** Most tokens of a window, prompt included, when the prompt has so many. */
  readonly maximumLength: (promptLength: number) => number;
  /** By code, such as "en"; empty: those that the tokenizer knows, unless the model is `english`. */
  readonly languages: ReadonlyMap<string, number>;
  /** Of the tokenizer's languages, those that the model knows; absent: all. */
  readonly languageCodes?: readonly string[] | undefined;
  /** It knows English only, and is told neither language nor task, though its tokenizer may have tokens for them. */
  readonly english?: boolean | undefined;
  /** Code of the language that it writes unless it is told another; absent: it listens for it. */
  readonly language?: string | undefined;
  /** Absent: "transcribe". */
  readonly task?: string | undefined;
  /** By name: "transcribe" and "translate". */
  readonly tasks: ReadonlyMap<string, number>;
  /** Ids at positions after the start that older configurations prescribe. */
  readonly forced: ReadonlyMap<number, number>;
  /** Hypotheses that the model asks for; 1 is greedy. */
  readonly beams: number;
  /** Absent: the model cannot tell when it heard a word. */
  readonly alignment?: SequenceAlignment | undefined;
  /** Where the prompt is another than Whisper's: its pieces for a language, which then must be named. The model knows no times. */
  readonly promptPieces?: ((language: string) => readonly string[]) | undefined;
}

/** The keys that say how long a text may become. */
export const lengthKeys = {
  max_length: z.number().int().positive().nullish(),
  max_new_tokens: z.number().int().positive().nullish(),
};

/**
 * What `max_new_tokens`, or else `max_length`, leaves of the decoder's places.
 * @param lengthOf most tokens, prompt included, for a `max_length` and a prompt
 */
export function maximumLengthOf(
  { max_length: length, max_new_tokens: added }: z.infer<z.ZodObject<typeof lengthKeys>>,
  positions: number,
  lengthOf: (maximum: number, promptLength: number) => number,
): SequenceGeneration["maximumLength"] {
  return (promptLength) => {
    const wanted = added ? promptLength + added : length ? lengthOf(length, promptLength) : positions;
    return Math.min(wanted, positions);
  };
}

/** How the decoder's cross-attention tells when a token was said. */
export interface SequenceAlignment {
  /** Heads that look at what is being said. */
  readonly heads: readonly (readonly [layer: number, head: number])[];
  readonly headsPerLayer: number;
  /** Frames of the median filter that their weights are smoothed with; odd. */
  readonly filterWidth: number;
}

/** Keys that would change the output, with the values that do not. */
const neutral: Readonly<Record<string, readonly unknown[]>> = {
  repetition_penalty: [1, null],
  no_repeat_ngram_size: [0, null],
  encoder_no_repeat_ngram_size: [0, null],
  encoder_repetition_penalty: [1, null],
  length_penalty: [1, null],
  bad_words_ids: [null],
  sequence_bias: [null],
  min_length: [0, null],
  min_new_tokens: [0, null],
  do_sample: [false, null],
  num_beam_groups: [1, null],
  penalty_alpha: [null],
  exponential_decay_length_penalty: [null],
  forced_bos_token_id: [null],
  forced_eos_token_id: [null],
  guidance_scale: [1, null],
  stop_strings: [null],
};

/** @throws UsmLiteError BAD_CONFIG for a key of `generation_config.json` that would change the output and is not supported */
export function checkGenerationKeys(generation: Readonly<Record<string, unknown>>, source: string): void {
  for (const [key, values] of Object.entries(neutral)) {
    const value = generation[key];
    if (value === undefined || values.includes(value)) continue;
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: key "${key}" is ${JSON.stringify(value)}, which is not supported; ${JSON.stringify(values[0])} is`,
    );
  }
}
