/** A recording of any length through a model that takes windows of samples: each begins where the last complete segment of the one before ended. */
import type { Adapter } from "../adapt/adapter.js";
import { concatenate } from "../audio/sample_blocks.js";
import type { DecodedToken, DecodedWord, Hypothesis } from "../decode/hypothesis.js";
import { UsmLiteError } from "../errors.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { DecodedWindow, Window } from "./window_decoding.js";
import type { WindowSegment } from "./window_segments.js";

/** A segment at its place in the recording. */
interface PlacedSegment extends WindowSegment {
  /** Seconds of the recording before the segment's window. */
  readonly offset: number;
}

interface Progress {
  readonly segments: readonly PlacedSegment[];
  /** Samples that no window needs any more. */
  readonly done: number;
  readonly language: string | undefined;
}

// Less is no speech: the end of a recording.
const minimumSeconds = 0.1;

interface WindowSearchSettings {
  readonly samplingRate: number;
  /** Samples of a window. */
  readonly windowSamples: number;
  /** Cuts a full window with more behind it at a quiet place near its end. */
  readonly cut?: { readonly within: number; readonly quiet: number } | undefined;
  /** Seconds that a frame of the hypotheses' tokens stands for. */
  readonly secondsPerFrame: number;
}

/** Windows of a recording, one after another, each of which must be answered by what was said in it before the next is known. */
export type WindowSteps = Generator<Window, void, DecodedWindow>;

export class WindowSearch {
  private held: Float32Array[] = [];
  private progress: Progress = { segments: [], done: 0, language: undefined };
  /** What there is if the recording ends with what is held. */
  private ended: Progress | undefined;
  private heldSamples = 0;

  constructor(
    private readonly tokenizer: TextTokenizer,
    private readonly settings: WindowSearchSettings,
    private readonly adapter: Adapter | undefined,
  ) {}

  /** The windows that these samples complete. */
  *push(samples: Float32Array): WindowSteps {
    this.held.push(samples.slice());
    this.heldSamples += samples.length;
    this.ended = undefined;
    if (this.heldSamples < this.leastSamples) return;
    const before = this.progress.done;
    const all = concatenate(this.held);
    this.progress = yield* this.windows(all, this.leastSamples);
    this.held = [all.subarray(this.progress.done - before)];
    this.heldSamples = all.length - (this.progress.done - before);
  }

  /** The windows that remain when the recording has ended. */
  *finish(): WindowSteps {
    this.ended = yield* this.windows(concatenate(this.held), minimumSeconds * this.settings.samplingRate);
  }

  /** The text so far, which later samples only ever add to. */
  settledText(): string {
    return this.text(this.progress.segments);
  }

  /** Seconds of the recording whose text will not change. */
  get settledSeconds(): number {
    return this.progress.done / this.settings.samplingRate;
  }

  /** What was said, after {@link WindowSearch.finish}. */
  hypothesis(): Hypothesis {
    if (!this.ended) throw new UsmLiteError("INTERNAL", "the last windows of a recording are decoded before it is asked what was said");
    const { segments } = this.ended;
    const { secondsPerFrame } = this.settings;
    const tokens = segments.flatMap((segment) =>
      segment.tokens.map((id, index): DecodedToken => {
        const [start, end] = tokenSpan(segment, index, index);
        const confidence = Math.exp(segment.logProbabilities[index] as number);
        return { id, firstFrame: Math.round(start / secondsPerFrame), endFrame: Math.round(end / secondsPerFrame), confidence };
      }),
    );
    const logProbability = segments.flatMap((segment) => segment.logProbabilities).reduce((sum, value) => sum + value, 0);
    return { text: this.text(segments), tokens, words: segments.flatMap((segment) => this.words(segment)), logProbability };
  }

  /** Samples that make a window while more may come; one that may be cut waits for what comes behind it. */
  private get leastSamples(): number {
    const { windowSamples, cut } = this.settings;
    return cut ? windowSamples + 1 : windowSamples;
  }

  /** Goes through what is held as long as there is enough for a window. */
  private *windows(samples: Float32Array, least: number): Generator<Window, Progress, DecodedWindow> {
    const { samplingRate, windowSamples, cut } = this.settings;
    const segments = [...this.progress.segments];
    let { done, language } = this.progress;
    const first = done;
    for (let left = samples.length; left >= least; left = samples.length - (done - first)) {
      const begin = done - first;
      const full = left > windowSamples && cut !== undefined;
      const length = full ? quietCut(samples.subarray(begin, begin + windowSamples), cut) : windowSamples;
      const window = yield { samples: samples.subarray(begin, begin + length), language, adapter: this.adapter };
      const offset = done / samplingRate;
      segments.push(...window.segments.map((segment) => ({ ...segment, offset })));
      language = window.language;
      done += Math.max(1, Math.round(window.advance * samplingRate));
    }
    return { segments, done, language };
  }

  private text(segments: readonly PlacedSegment[]): string {
    return segments
      .map(({ tokens }) => this.tokenizer.decode(tokens))
      .join(spaceless.has(this.progress.language ?? "") ? "" : this.tokenizer.separator)
      .trim();
  }

  private words(segment: PlacedSegment): DecodedWord[] {
    const { tokens, logProbabilities } = segment;
    // What is written after each token: tells which tokens spell a word.
    const written = tokens.map((_, index) => this.tokenizer.decode(tokens.slice(0, index + 1)));
    const tokenOf = (character: number): number =>
      Math.max(
        0,
        written.findIndex(({ length }) => length > character),
      );
    // A letter of several bytes may take several tokens, of which all but the last write a mark in its place.
    const completed = (token: number): number => {
      const { length } = written[token] as string;
      let last = token;
      while (written[last]?.endsWith("\uFFFD") && written[last + 1]?.length === length) last++;
      return last;
    };
    const text = this.tokenizer.decode(tokens);
    return Array.from(text.matchAll(/\S+/g), ({ 0: word, index }): DecodedWord => {
      const [first, last] = [tokenOf(index), completed(tokenOf(index + word.length - 1))];
      const spelled = logProbabilities.slice(first, last + 1);
      const confidence = Math.exp(spelled.reduce((sum, value) => sum + value, 0) / spelled.length);
      const [start, end] = segment.tokenTimes ? tokenSpan(segment, first, last) : share(segment, index, index + word.length, text.length);
      return { word, start: milliseconds(start), end: milliseconds(end), confidence };
    });
  }
}

/** Languages that are written without spaces between sentences. */
const spaceless: ReadonlySet<string> = new Set(["ja", "zh"]);

/** Samples before the quietest stretch of the end of a window. */
function quietCut(window: Float32Array, { within, quiet }: { within: number; quiet: number }): number {
  const first = Math.max(0, window.length - within);
  let best = first;
  let least = Infinity;
  for (let begin = first; begin + quiet < window.length; begin += quiet) {
    const energy = window.subarray(begin, begin + quiet).reduce((sum, value) => sum + value * value, 0);
    if (energy < least) [best, least] = [begin, energy];
  }
  return Math.max(1, best);
}

/** Seconds of the recording from the beginning of one token to the end of another: as the model aligned them, or in equal parts. */
function tokenSpan(segment: PlacedSegment, first: number, last: number): [number, number] {
  const { offset, tokens, tokenTimes: times } = segment;
  if (!times) return share(segment, first, last + 1, tokens.length);
  return [offset + (times[first] as number), offset + (times[last + 1] as number)];
}

/** Parts [begin, end) of `count` equal parts of a segment, in seconds of the recording. */
function share({ offset, start, end }: PlacedSegment, first: number, last: number, count: number): [number, number] {
  const at = (part: number): number => offset + start + ((end - start) * part) / count;
  return [at(first), at(last)];
}

const milliseconds = (seconds: number): number => Math.round(seconds * 1000) / 1000;
