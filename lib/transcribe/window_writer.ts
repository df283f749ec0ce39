/** What a sequence-to-sequence model writes about windows, together: by the rules of its times, and again where the text looks wrong. */
import { deflateSync } from "node:zlib";
import type { SequenceRequest, WrittenSequence } from "../decode/sequence_beam.js";
import { writeEach, type SequenceRules } from "../decode/sequence_search.js";
import { timesAllowed } from "../decode/timestamp_rules.js";
import { UsmLiteError } from "../errors.js";
import type { SequencePrompt } from "../models/sequence_prompt.js";
import type { SequenceToSequenceNetwork } from "../models/speech_network.js";
import type { DecoderSession } from "../nn/decoder_session.js";
import { RandomStream } from "../ops/random_stream.js";
import { ExcludedTokens } from "../ops/token_choice.js";
import type { Outcome } from "../outcome.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";

/** What is to be written about. */
export interface WritingRequest extends Pick<SequenceRequest, "item" | "prompt" | "isAborted"> {
  readonly noSpeechProbability: number;
}

/** A window whose text is being written. */
interface Attempt extends WritingRequest {
  readonly random: RandomStream;
  written: Outcome<WrittenSequence> | undefined;
}

// Whisper's own rules, with the defaults and names of openai-whisper: a text that repeats itself or is unlikely is tried again, hotter each
// time (section 4.5). Other models write what they think first.
const temperatures = [0, 0.2, 0.4, 0.6, 0.8, 1];
const compressionRatioThreshold = 2.4;
const logProbabilityThreshold = -1;
const noSpeechThreshold = 0.6;

export class WindowWriter {
  /** Ids from here on are times. */
  readonly firstTime: number;
  private readonly rules: SequenceRules;

  /** @param beamWidth hypotheses kept; undefined: what the model asks for */
  constructor(
    private readonly network: SequenceToSequenceNetwork,
    private readonly tokenizer: TextTokenizer,
    { noTimestampsId }: SequencePrompt,
    private readonly beamWidth: number | undefined,
  ) {
    this.firstTime = noTimestampsId === undefined ? Infinity : noTimestampsId + 1;
    this.rules = this.sequenceRules(noTimestampsId);
  }

  /** The text about each window, which does not depend on the others, or why there is none. */
  write(session: DecoderSession, wanted: readonly WritingRequest[]): Outcome<WrittenSequence>[] {
    const { generation } = this.network;
    const attempts = wanted.map((request): Attempt => ({ ...request, random: new RandomStream(1), written: undefined }));
    let wrong = attempts;
    for (const temperature of generation.promptPieces ? [0] : temperatures) {
      const requests = wrong.map(({ item, prompt, isAborted, random }) => ({
        item,
        prompt,
        isAborted,
        endId: generation.endId,
        maximumLength: generation.maximumLength(prompt.length),
        beamWidth: this.beamWidth ?? generation.beams,
        sampling: temperature > 0 ? { temperature, random } : undefined,
      }));
      const written = writeEach(this.network, session, requests, this.rules);
      wrong.forEach((attempt, index) => (attempt.written = written[index]));
      wrong = wrong.filter((attempt) => looksWrong(attempt, this.tokenizer));
      if (wrong.length === 0) break;
    }
    return attempts.map(({ written }) => written as Outcome<WrittenSequence>);
  }

  private sequenceRules(noTimestampsId: number | undefined): SequenceRules {
    const { generation, vocabularySize } = this.network;
    const { suppressed, suppressedFirst, endId, latestFirstTime } = generation;
    // No token is a language, a task or a beginning in the middle of a text of Whisper's. Others may say by one that nothing was said.
    const special = generation.promptPieces
      ? []
      : Array.from({ length: Math.min(vocabularySize, this.firstTime, this.tokenizer.size) }, (_, id) => id).filter((id) =>
          this.tokenizer.isSpecial(id),
        );
    const never = [...suppressed, ...special].filter((id) => id !== endId);
    if (noTimestampsId !== undefined) never.push(noTimestampsId);
    const excluded = new ExcludedTokens(vocabularySize, [never, [...never, ...suppressedFirst]]);
    return {
      excluded,
      allowed: (written) => ({
        without: written.length === 0 ? 1 : 0,
        ...(noTimestampsId === undefined ? { forbidden: [] } : timesAllowed(written, { noTimestampsId, endId, latestFirstTime })),
      }),
    };
  }
}

/** Nothing was said: the model thinks so, and is not sure of what it wrote either. */
export const isSilent = (written: WrittenSequence, { noSpeechProbability }: WritingRequest): boolean =>
  noSpeechProbability > noSpeechThreshold && meanLogProbability(written) < logProbabilityThreshold;

function looksWrong({ written, noSpeechProbability }: Attempt, tokenizer: TextTokenizer): boolean {
  if (written === undefined || written instanceof UsmLiteError) return false;
  const repeats = compressionRatio(tokenizer.decode(written.tokens)) > compressionRatioThreshold;
  const unlikely = meanLogProbability(written) < logProbabilityThreshold;
  return repeats || (unlikely && noSpeechProbability <= noSpeechThreshold);
}

const meanLogProbability = ({ logProbability, tokens }: WrittenSequence): number => logProbability / (tokens.length + 1);

/** How many times shorter a text becomes when it is compressed: high for one that repeats itself. */
function compressionRatio(text: string): number {
  const bytes = Buffer.from(text, "utf8");
  return bytes.length === 0 ? 0 : bytes.length / deflateSync(bytes).length;
}
