/** What a decoder returns: text with the time and the confidence of every token and word. */
import { byteOfPiece, textOfBytes } from "../text/bpe_model.js";
import { cleanUp, cleanUpSoFar } from "../text/clean_up.js";
import { WORD_BEGIN, type Tokenizer } from "../text/tokenizer.js";

/** The output of a CTC head: natural logarithms of probabilities, row by row. */
export interface LogProbabilities {
  /** (frames, tokens) row major. */
  readonly values: Float32Array;
  readonly frames: number;
  /** Number of token ids, the blank included. */
  readonly tokens: number;
}

/** How frames become seconds. */
export interface FrameTimes {
  /** Length of one frame of the CTC head; 0.04 for the `lasr_ctc` family. */
  readonly secondsPerFrame: number;
  /** Time of the first frame; default 0. */
  readonly startSeconds?: number;
}

/** A symbol of a transcript, and the frames that emit it. */
export interface DecodedToken {
  readonly id: number;
  /** Frames [firstFrame, endFrame) that emit this token. */
  readonly firstFrame: number;
  readonly endFrame: number;
  /** Highest probability of the token in these frames, in [0, 1]. */
  readonly confidence: number;
}

/** A word of a transcript with its time. */
export interface DecodedWord {
  readonly word: string;
  /** Seconds. */
  readonly start: number;
  /** Seconds. */
  readonly end: number;
  /** Geometric mean of the confidences of its tokens, in [0, 1]. */
  readonly confidence: number;
}

/** A decoded text with its tokens and words. */
export interface Hypothesis {
  /** The words, with single spaces between them. */
  readonly text: string;
  readonly tokens: readonly DecodedToken[];
  readonly words: readonly DecodedWord[];
  /**
   * Natural logarithm of the acoustic probability: of the best alignment when decoding greedily, of all alignments
   * within the beam when searching. Language model and bonuses are not in it.
   */
  readonly logProbability: number;
}

/** Groups tokens into words at pieces that begin with U+2581 and gives them times. */
export function hypothesisOf(tokens: readonly DecodedToken[], logProbability: number, tokenizer: Tokenizer, times: FrameTimes): Hypothesis {
  const ids = tokens.map(({ id }) => id);
  const words = spelledWords(ids, tokenizer).map(({ word, spelledBy }): DecodedWord => {
    const members = spelledBy.map((index) => tokens[index] as DecodedToken);
    return { word, ...span(members[0] as DecodedToken, members.at(-1) as DecodedToken, times), confidence: geometricMean(members) };
  });
  return { text: words.map(({ word }) => word).join(" "), tokens, words, logProbability };
}

/** The text of {@link hypothesisOf} alone. */
export function textOf(ids: ArrayLike<number>, tokenizer: Tokenizer): string {
  return textOfWords(spelledWords(ids, tokenizer));
}

/** How {@link textOf} these and whatever ids follow them begins. */
export function settledTextOf(ids: ArrayLike<number>, tokenizer: Tokenizer): string {
  const text = textOfWords(writtenWords(ids, tokenizer));
  return tokenizer.cleansUp ? cleanUpSoFar(text) : text;
}

/** A word, and the indices of the tokens that have letters in it. */
interface SpelledWord {
  readonly word: string;
  readonly spelledBy: readonly number[];
}

const textOfWords = (words: readonly SpelledWord[]): string => words.map(({ word }) => word).join(" ");

function spelledWords(ids: ArrayLike<number>, tokenizer: Tokenizer): SpelledWord[] {
  const words = writtenWords(ids, tokenizer);
  return tokenizer.cleansUp ? cleanedUpWords(words) : words;
}

/** Words between which {@link cleanUp} leaves no space are one. */
function cleanedUpWords(words: readonly SpelledWord[]): SpelledWord[] {
  const text = cleanUp(textOfWords(words));
  const joined: { word: string; spelledBy: number[] }[] = [];
  let at = 0;
  for (const { word, spelledBy } of words) {
    if (at === 0 || text[at] === " ") joined.push({ word: "", spelledBy: [] });
    if (at > 0 && text[at] === " ") at++;
    const begin = at;
    // A piece of several letters may have a space within it, which goes where others do.
    for (const letter of word.split("")) if (letter !== " " || text[at] === " ") at++;
    const whole = joined.at(-1) as (typeof joined)[number];
    whole.word += text.slice(begin, at);
    for (const index of spelledBy) whole.spelledBy.push(index);
  }
  return joined;
}

/** As the pieces have them. */
function writtenWords(ids: ArrayLike<number>, tokenizer: Tokenizer): SpelledWord[] {
  const words: SpelledWord[] = [];
  let word = "";
  let bytes: number[] = [];
  let spelledBy: number[] = [];
  const endBytes = (): void => {
    word += textOfBytes(bytes);
    bytes = [];
  };
  const closeWord = (): void => {
    endBytes();
    if (word) words.push({ word, spelledBy });
    word = "";
    spelledBy = [];
  };
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index] as number;
    if (tokenizer.isSpecial(id)) continue;
    const piece = tokenizer.piece(id);
    const byte = byteOfPiece(piece);
    if (byte !== undefined) {
      bytes.push(byte);
      spelledBy.push(index);
      continue;
    }
    endBytes();
    piece.split(WORD_BEGIN).forEach((letters, part) => {
      if (part > 0) closeWord();
      if (letters) spelledBy.push(index);
      word += letters;
    });
  }
  closeWord();
  return words;
}

function span(first: DecodedToken, last: DecodedToken, { secondsPerFrame, startSeconds = 0 }: FrameTimes) {
  const milliseconds = (frame: number): number => Math.round((startSeconds + frame * secondsPerFrame) * 1000) / 1000;
  return { start: milliseconds(first.firstFrame), end: milliseconds(last.endFrame) };
}

function geometricMean(tokens: readonly DecodedToken[]): number {
  const logarithms = tokens.reduce((sum, { confidence }) => sum + Math.log(confidence), 0);
  return Math.exp(logarithms / tokens.length);
}
