/** From samples to text on the calling thread: log-mel, network over packed chunks, decoding. */
import { ctcBeamSearch } from "../decode/ctc_beam_search.js";
import { ctcGreedy } from "../decode/ctc_greedy.js";
import type { Hypothesis, LogProbabilities } from "../decode/hypothesis.js";
import { LanguageModelScorer, type LanguageModelWeights } from "../decode/language_model_scorer.js";
import { joinChunks, planChunks, type Chunk, type Range } from "../decode/overlap.js";
import type { PrefixScorer } from "../decode/prefix_scorer.js";
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { logSoftmax } from "../ops/softmax.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { Transcript } from "../text/transcript_formats.js";
import type { WeightForm } from "../models/checkpoint_weights.js";

export interface RecognizerOptions {
  /** `beam` uses the model's language model when it has one, and is the default then; else `greedy`. */
  readonly decoder?: "greedy" | "beam";
  /** Hypotheses kept by the beam search; default 32. */
  readonly beamWidth?: number;
  /** Weight of the language model and bonus for each word; default: what the model folder says. */
  readonly languageModelWeights?: LanguageModelWeights;
  /** `float32` unpacks compressed weights first, to compare. */
  readonly weights?: WeightForm;
}

/** What was said. Times in seconds from the beginning of the audio. */
export interface RecognizedSpeech extends Transcript {
  readonly tokens: readonly { readonly id: number; readonly start: number; readonly end: number; readonly confidence: number }[];
  /** As in {@link Hypothesis}. */
  readonly logProbability: number;
}

// Chunks of 20 s see 2 s of context beyond their part on either side: well past the reach of the convolutions, and
// attention over 20 s is what the model met in training.
const chunkSeconds = 20;
const overlapSeconds = 4;
// Frames of one forward pass: bounds memory whatever the length of the audio.
const secondsPerPass = 30;

export class Recognizer {
  private readonly tokenizer: Tokenizer;
  private readonly decoder: "greedy" | "beam";
  private readonly scorers: readonly PrefixScorer[];

  /** @throws UsmLiteError BAD_TOKENIZER when the model has no tokenizer, or one of another size than its vocabulary */
  constructor(
    readonly model: SpeechModel,
    private readonly options: RecognizerOptions = {},
  ) {
    const { tokenizer, languageModel, folder, network } = model;
    if (!tokenizer) {
      throw new UsmLiteError("BAD_TOKENIZER", `model folder ${folder} has no tokenizer.json, so it cannot give text`);
    }
    if (tokenizer.size !== network.config.vocab_size) {
      throw new UsmLiteError(
        "BAD_TOKENIZER",
        `${folder}: tokenizer.json has ${tokenizer.size} tokens but config.json has vocab_size ${network.config.vocab_size}`,
      );
    }
    this.tokenizer = tokenizer;
    this.decoder = options.decoder ?? (languageModel ? "beam" : "greedy");
    const weights = options.languageModelWeights ?? model.languageModelWeights;
    this.scorers = languageModel ? [new LanguageModelScorer(languageModel, tokenizer, weights)] : [];
  }

  /**
   * @param samples mono at the model's rate, 16 kHz, in [-1, 1]
   * @param isAborted asked between chunks; true ends the work with `ABORTED`
   */
  transcribe(samples: Float32Array, isAborted?: () => boolean): RecognizedSpeech {
    return this.transcribeBatch([samples], isAborted)[0] as RecognizedSpeech;
  }

  /** Several utterances in shared forward passes; each result is what it would be alone. */
  transcribeBatch(utterances: readonly Float32Array[], isAborted: () => boolean = () => false): RecognizedSpeech[] {
    return this.logProbabilities(utterances, isAborted).map((logProbabilities, index) => {
      if (isAborted()) throw new UsmLiteError("ABORTED", "the transcription was aborted");
      const duration = (utterances[index] as Float32Array).length / this.model.frontEnd.config.samplingRate;
      const { secondsPerFrame } = this.model;
      const { text, words, tokens, logProbability } = this.decode(logProbabilities);
      const timed = tokens.map(({ id, firstFrame, endFrame, confidence }) => ({
        id,
        start: firstFrame * secondsPerFrame,
        end: endFrame * secondsPerFrame,
        confidence,
      }));
      return { text, words, tokens: timed, logProbability, duration };
    });
  }

  /** Log-probabilities of each utterance, one frame per {@link SpeechModel.secondsPerFrame}. */
  logProbabilities(utterances: readonly Float32Array[], isAborted: () => boolean = () => false): LogProbabilities[] {
    const { frontEnd, network, secondsPerFrame } = this.model;
    const melRate = frontEnd.config.samplingRate / frontEnd.config.hopLength; // log-mel frames per second
    const stride = Math.round(secondsPerFrame * melRate); // log-mel frames per encoder frame
    const features = utterances.map((samples) => tidy(() => frontEnd.logMel(samples).toArray()));
    const pieces = features.flatMap((values, utterance) =>
      planChunks(values.length / frontEnd.config.featureSize, chunkSeconds * melRate, overlapSeconds * melRate, stride).map(
        (range) => ({ ...range, utterance }),
      ),
    );
    const chunks: Chunk[][] = utterances.map(() => []);
    for (const group of groupRanges(pieces, secondsPerPass * melRate)) {
      if (isAborted()) throw new UsmLiteError("ABORTED", "the transcription was aborted");
      this.forward(group, features).forEach((values, index) => {
        const { utterance, begin } = group[index] as UtteranceRange;
        const tokens = network.config.vocab_size;
        chunks[utterance]?.push({ firstFrame: begin / stride, frames: values.length / tokens, tokens, values });
      });
    }
    return chunks.map((ofUtterance) => joinChunks(ofUtterance, network.config.pad_token_id));
  }

  /** One pass over packed chunks; log-probabilities of each. */
  private forward(chunks: readonly UtteranceRange[], features: readonly Float32Array[]): Float32Array[] {
    const { featureSize } = this.model.frontEnd.config;
    return tidy(() => {
      const offsets = new SequenceOffsets(chunks.map(({ begin, end }) => end - begin));
      const packed = Tensor.zeros([offsets.frames, featureSize]);
      chunks.forEach(({ begin, end, utterance }, index) => {
        const values = (features[utterance] as Float32Array).subarray(begin * featureSize, end * featureSize);
        packed.rows(offsets.begin(index), offsets.begin(index) + end - begin).write(values);
      });
      const result = this.model.network.forward(packed, offsets);
      const values = logSoftmax(result.logits).toArray();
      const vocabulary = result.logits.dim(1);
      return result.offsets.lengths.map((length, index) => {
        const first = result.offsets.begin(index) * vocabulary;
        return values.slice(first, first + length * vocabulary);
      });
    });
  }

  private decode(input: LogProbabilities): Hypothesis {
    const times = { secondsPerFrame: this.model.secondsPerFrame };
    if (this.decoder === "greedy") return ctcGreedy(input, this.tokenizer, times);
    const { beamWidth } = this.options;
    const [best] = ctcBeamSearch(input, this.tokenizer, times, { scorers: this.scorers, ...(beamWidth === undefined ? {} : { beamWidth }) });
    return best as Hypothesis;
  }
}

/** Log-mel frames of one of several utterances. */
interface UtteranceRange extends Range {
  readonly utterance: number;
}

/** Groups consecutive ranges so that one forward pass sees at most `maximumFrames`: this bounds memory. */
function groupRanges(ranges: readonly UtteranceRange[], maximumFrames: number): UtteranceRange[][] {
  const groups: UtteranceRange[][] = [];
  let frames = Infinity;
  for (const range of ranges) {
    const length = range.end - range.begin;
    if (frames + length > maximumFrames) {
      groups.push([]);
      frames = 0;
    }
    groups.at(-1)?.push(range);
    frames += length;
  }
  return groups;
}
