/**
 * Sub-word tokenizers whose words begin with U+2581. Those trained here have the layout of `transformers`'
 * LasrTokenizer: a unigram model with `<pad>` (the CTC blank) at 0, `</s>` at 1, `<unk>` at 2, and U+2581 itself at 3.
 */
import { join } from "node:path";
import { readJsonFile, writeJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { byteOfPiece, textOfBytes, type Segmentation } from "./bpe_model.js";
import { cleanUp } from "./clean_up.js";
import { normalizeText } from "./normalize.js";
import { WORD_BEGIN, wordPipeline, type TextPipeline } from "./text_pipeline.js";
import { SPECIAL_PIECES, tokenizerFromJson } from "./tokenizer_json.js";
import type { TextTokenizer } from "./text_tokenizer.js";
import { UnigramModel, type ScoredPiece } from "./unigram_model.js";
import { trainUnigram } from "./unigram_training.js";

export { WORD_BEGIN } from "./text_pipeline.js";

const FILE_NAME = "tokenizer.json";
// LasrTokenizer hands characters outside of its pieces id 3 whatever stands there; here it is a space.
const UNKNOWN_ID = 3;

/** What pieces mean and how text becomes pieces. */
interface TokenizerOptions {
  /** What characters outside of all pieces become; 3 by default, as LasrTokenizer does whatever stands there. */
  readonly unknownId?: number;
  /** Pieces that are no text; default `<pad>`, `</s>`, `<unk>`. */
  readonly specialPieces?: Iterable<string>;
  /** What CTC or a transducer emits between symbols; default the id of `<pad>`. The number of pieces: an id after them. */
  readonly blankId?: number | undefined;
  /** Whether texts have no spaces before punctuation and the ends of contractions, see {@link cleanUp}; default false. */
  readonly cleansUp?: boolean;
  /** Default: {@link UnigramModel} over the scores of the pieces. */
  readonly segmentation?: Segmentation;
  /** Default: {@link wordPipeline}. */
  readonly pipeline?: TextPipeline;
  /** The file it was read from, written again by {@link Tokenizer.save}. */
  readonly json?: JsonObject;
}

/** A token as a part of a word. */
export interface PieceSpelling {
  readonly beginsWord: boolean;
  readonly letters: string;
}

/**
 * From text to symbols of a CTC model or transducer and back: characters or sub-words, a word mark, and the blank.
 *
 * @example
 * const tokenizer = Tokenizer.load("model");
 * tokenizer.decode(tokenizer.encode("HELLO WORLD")); // "HELLO WORLD"
 */
export class Tokenizer implements TextTokenizer {
  readonly separator = " ";
  readonly pieces: readonly ScoredPiece[];
  /** What CTC emits between symbols. */
  readonly blankId: number;
  /** Whether texts are put right by {@link cleanUp}. */
  readonly cleansUp: boolean;
  private readonly model: Segmentation;
  private readonly specialIds: ReadonlySet<number>;
  private readonly unknownId: number;
  private readonly cache = new Map<string, number[]>();
  private readonly spellings: PieceSpelling[] = [];

  constructor(
    pieces: readonly ScoredPiece[],
    private readonly options: TokenizerOptions = {},
  ) {
    const blankId = options.blankId ?? pieces.findIndex(([piece]) => piece === SPECIAL_PIECES[0]);
    if (blankId < 0 || blankId > pieces.length) {
      throw new UsmLiteError(
        "BAD_TOKENIZER",
        options.blankId === undefined
          ? `a tokenizer needs the piece "<pad>", the CTC blank`
          : `the blank, ${blankId}, must be an id of the tokenizer, which has ${pieces.length}, or the next one`,
      );
    }
    this.blankId = blankId;
    this.pieces = blankId === pieces.length ? [...pieces, ["<blank>", 0]] : pieces;
    this.cleansUp = options.cleansUp ?? false;
    this.unknownId = options.unknownId ?? UNKNOWN_ID;
    this.model = options.segmentation ?? new UnigramModel(pieces, this.unknownId);
    const special = new Set(options.specialPieces ?? SPECIAL_PIECES);
    this.specialIds = new Set(this.pieces.flatMap(([piece], id) => (id === blankId || special.has(piece) ? [id] : [])));
  }

  /** Number of ids, the width of a CTC head. */
  get size(): number {
    return this.pieces.length;
  }

  /** The text of one id, with {@link WORD_BEGIN} for a space. */
  piece(id: number): string {
    const piece = this.pieces[id];
    if (!piece) throw new UsmLiteError("INVALID_ARGUMENT", `id ${id} does not exist: this tokenizer has ids 0..${this.size - 1}`);
    return piece[0];
  }

  /** What one id adds to a word, and whether it begins one. A lone {@link WORD_BEGIN} is the silence before a word: no letters. */
  spelling(id: number): PieceSpelling {
    const piece = this.piece(id);
    return (this.spellings[id] ??= { beginsWord: piece.startsWith(WORD_BEGIN), letters: piece.replaceAll(WORD_BEGIN, "") });
  }

  idOf(piece: string): number | undefined {
    return this.model.idOf(piece);
  }

  /** `<pad>`, `</s>`, `<unk>` and the blank: ids that are no text. */
  isSpecial(id: number): boolean {
    return this.specialIds.has(id);
  }

  /** As the tokenizer of transformers without special tokens, `tokenizer(text, add_special_tokens=False)`. */
  encode(text: string): number[] {
    return (this.options.pipeline ?? wordPipeline)(text).flatMap((part) => this.encodePart(part));
  }

  /** As `tokenizer.decode(ids, skip_special_tokens=True, group_tokens=False)`: repeated ids are repeated text. */
  decode(ids: Iterable<number>): string {
    let text = "";
    let first = true;
    let bytes: number[] = [];
    const endBytes = (): void => {
      text += textOfBytes(bytes);
      bytes = [];
    };
    for (const id of ids) {
      const piece = this.piece(id);
      if (this.specialIds.has(id)) continue;
      const byte = byteOfPiece(piece);
      if (byte !== undefined) {
        bytes.push(byte);
      } else {
        endBytes();
        text += piece.replaceAll(WORD_BEGIN, first ? "" : " ");
      }
      first = false;
    }
    endBytes();
    return this.cleansUp ? cleanUp(text.trim()) : text;
  }

  private encodePart(part: string): number[] {
    let ids = this.cache.get(part);
    if (!ids) {
      ids = this.model.segment(part);
      if (this.cache.size < 100_000) this.cache.set(part, ids);
    }
    return ids;
  }

  /**
   * Reads `tokenizer.json` in `folder`.
   * @param blankId the blank of the network that the tokenizer belongs to; default its `<pad>`
   * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_TOKENIZER
   */
  static load(folder: string, blankId?: number): Tokenizer {
    const path = join(folder, FILE_NAME);
    const json = readJsonFile(path, "BAD_TOKENIZER");
    const { pieces, ...options } = tokenizerFromJson(json, path);
    try {
      return new Tokenizer(pieces, { ...options, blankId, json });
    } catch (error) {
      if (!(error instanceof UsmLiteError)) throw error;
      throw new UsmLiteError(error.code, `${path}: ${error.message}`, { cause: error });
    }
  }

  /** Writes `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads. @throws UsmLiteError FILE_UNWRITABLE */
  save(folder: string): void {
    const special = [...this.specialIds];
    const own = {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: special.map((id) => addedToken(id, this.piece(id))),
      normalizer: null,
      pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, METASPACE] },
      post_processor: null,
      decoder: METASPACE,
      model: { type: "Unigram", unk_id: this.unknownId, vocab: this.pieces, byte_fallback: false },
    };
    writeJsonFile(join(folder, FILE_NAME), this.options.json ?? own);
    writeJsonFile(join(folder, "tokenizer_config.json"), {
      tokenizer_class: "LasrTokenizer",
      pad_token: SPECIAL_PIECES[0],
      eos_token: SPECIAL_PIECES[1],
      unk_token: SPECIAL_PIECES[2],
      extra_ids: 0,
      additional_special_tokens: null,
      clean_up_tokenization_spaces: false,
    });
  }
}

const METASPACE = { type: "Metaspace", replacement: WORD_BEGIN, prepend_scheme: "always", split: true };

const addedToken = (id: number, content: string) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

/**
 * Learns a tokenizer from transcripts in upper case A-Z, apostrophe and space ({@link normalizeText} is applied). Every
 * character stays a piece of its own, so every word can be written. Small text may give fewer pieces than asked for.
 * @param size number of ids, from 31 (characters only) to 65536
 *
 * @example
 * const tokenizer = trainTokenizer(["THE CAT SAT", "THE DOG SAT"], 40); // characters, and sub-words that come often
 */
export function trainTokenizer(texts: Iterable<string>, size: number): Tokenizer {
  const characters = [WORD_BEGIN, "'", ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
  const smallest = SPECIAL_PIECES.length + characters.length;
  if (!Number.isInteger(size) || size < smallest || size > 65536) {
    throw new UsmLiteError("INVALID_ARGUMENT", `the vocabulary size must be a whole number from ${smallest} to 65536, got ${size}`);
  }
  const words = new Map<string, number>();
  for (const text of texts) {
    for (const word of normalizeText(text).split(" ")) {
      if (word) words.set(WORD_BEGIN + word, (words.get(WORD_BEGIN + word) ?? 0) + 1);
    }
  }
  if (words.size === 0) throw new UsmLiteError("INVALID_ARGUMENT", "there are no words to learn a tokenizer from");
  const learned = trainUnigram(words, { size: size - SPECIAL_PIECES.length, characters });
  // Six decimals: short enough for every JSON reader to parse to the same double.
  const rounded = learned.map(([piece, score]): ScoredPiece => [piece, Number(score.toFixed(6))]);
  const space = rounded.filter(([piece]) => piece === WORD_BEGIN);
  const others = rounded.filter(([piece]) => piece !== WORD_BEGIN);
  return new Tokenizer([...SPECIAL_PIECES.map((piece): ScoredPiece => [piece, 0]), ...space, ...others]);
}
