/**
 * Sub-word tokenizers in the layout of `transformers`' LasrTokenizer: `tokenizer.json` with a unigram model over words
 * that begin with U+2581, `<pad>` (the CTC blank) at 0, `</s>` at 1, `<unk>` at 2, and U+2581 itself at 3.
 */
import { join } from "node:path";
import { readJsonFile, writeJsonFile, type JsonObject, type JsonValue } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { normalizeText } from "./normalize.js";
import { UnigramModel, type ScoredPiece } from "./unigram_model.js";
import { trainUnigram } from "./unigram_training.js";

/** Stands for the space before a word. */
export const WORD_BEGIN = "\u2581";
const FILE_NAME = "tokenizer.json";
const SPECIAL_PIECES = ["<pad>", "</s>", "<unk>"] as const;
// LasrTokenizer hands characters outside of its pieces id 3 whatever stands there; here it is a space.
const UNKNOWN_ID = 3;
// What Rust's char::is_whitespace splits at; JavaScript's \s differs at U+0085 and U+FEFF.
const WHITESPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

export class Tokenizer {
  /** What CTC emits between symbols. */
  readonly blankId: number;
  private readonly model: UnigramModel;
  private readonly specialIds: ReadonlySet<number>;
  private readonly normalization: "none" | "nfkc";
  private readonly cache = new Map<string, number[]>();

  constructor(
    readonly pieces: readonly ScoredPiece[],
    options: { unknownId?: number; specialPieces?: Iterable<string>; normalization?: "none" | "nfkc" } = {},
  ) {
    this.normalization = options.normalization ?? "none";
    this.model = new UnigramModel(pieces, options.unknownId ?? UNKNOWN_ID);
    const special = new Set(options.specialPieces ?? SPECIAL_PIECES);
    this.specialIds = new Set(pieces.flatMap(([piece], id) => (special.has(piece) ? [id] : [])));
    const blank = this.model.idOf(SPECIAL_PIECES[0]);
    if (blank === undefined)
      throw new UsmLiteError("BAD_TOKENIZER", `a tokenizer needs the piece "<pad>", the CTC blank`);
    this.blankId = blank;
  }

  /** Number of ids, the width of a CTC head. */
  get size(): number {
    return this.pieces.length;
  }

  /** The text of one id, with {@link WORD_BEGIN} for a space. */
  piece(id: number): string {
    const piece = this.pieces[id];
    if (!piece)
      throw new UsmLiteError("INVALID_ARGUMENT", `id ${id} does not exist: this tokenizer has ids 0..${this.size - 1}`);
    return piece[0];
  }

  idOf(piece: string): number | undefined {
    return this.model.idOf(piece);
  }

  /** `<pad>`, `</s>`, `<unk>`: ids that are no text. */
  isSpecial(id: number): boolean {
    return this.specialIds.has(id);
  }

  /** As LasrTokenizer without special tokens, `tokenizer(text, add_special_tokens=False)`. */
  encode(text: string): number[] {
    const words = (this.normalization === "nfkc" ? text.normalize("NFKC") : text).split(WHITESPACE);
    return words.flatMap((word) => (word === "" ? [] : this.encodeWord(word)));
  }

  /** As `tokenizer.decode(ids, skip_special_tokens=True, group_tokens=False)`: repeated ids are repeated text. */
  decode(ids: Iterable<number>): string {
    let text = "";
    let first = true;
    for (const id of ids) {
      const piece = this.piece(id);
      if (this.specialIds.has(id)) continue;
      text += piece.replaceAll(WORD_BEGIN, first ? "" : " ");
      first = false;
    }
    return text;
  }

  private encodeWord(word: string): number[] {
    let ids = this.cache.get(word);
    if (!ids) {
      const marked = word.startsWith(WORD_BEGIN) ? word : WORD_BEGIN + word;
      ids = marked.split(new RegExp(`(?=${WORD_BEGIN})`)).flatMap((part) => this.model.segment(part));
      if (this.cache.size < 100_000) this.cache.set(word, ids);
    }
    return ids;
  }

  /** Reads `tokenizer.json` in `folder`. @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_TOKENIZER */
  static load(folder: string): Tokenizer {
    const path = join(folder, FILE_NAME);
    return tokenizerFromJson(readJsonFile(path, "BAD_TOKENIZER"), path);
  }

  /** Writes `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads. @throws UsmLiteError FILE_UNWRITABLE */
  save(folder: string): void {
    const special = [...this.specialIds];
    writeJsonFile(join(folder, FILE_NAME), {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: special.map((id) => addedToken(id, this.piece(id))),
      normalizer: this.normalization === "nfkc" ? { type: "NFKC" } : null,
      pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, METASPACE] },
      post_processor: null,
      decoder: METASPACE,
      model: { type: "Unigram", unk_id: this.model.unknownId, vocab: this.pieces, byte_fallback: false },
    });
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
 */
export function trainTokenizer(texts: Iterable<string>, size: number): Tokenizer {
  const characters = [WORD_BEGIN, "'", ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
  const smallest = SPECIAL_PIECES.length + characters.length;
  if (!Number.isInteger(size) || size < smallest || size > 65536) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `the vocabulary size must be a whole number from ${smallest} to 65536, got ${size}`,
    );
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

function tokenizerFromJson(json: JsonObject, path: string): Tokenizer {
  const fail = (problem: string): never => {
    throw new UsmLiteError("BAD_TOKENIZER", `${path} ${problem}`);
  };
  const object = (value: JsonValue | undefined, name: string): JsonObject =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? value
      : fail(`must have an object "${name}"`);

  const model = object(json["model"], "model");
  if (model["type"] !== undefined && model["type"] !== "Unigram") {
    fail(`has a model of type ${JSON.stringify(model["type"])}; only "Unigram" is supported`);
  }
  const vocabulary = model["vocab"];
  if (!Array.isArray(vocabulary) || vocabulary.length === 0) return fail('must have a non-empty list "model.vocab"');
  const pieces = vocabulary.map((entry, id): ScoredPiece => {
    const [piece, score] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof piece !== "string" || piece === "" || typeof score !== "number" || !Number.isFinite(score)) {
      return fail(`entry ${id} of "model.vocab" must be [piece, score], got ${JSON.stringify(entry).slice(0, 100)}`);
    }
    return [piece, score];
  });
  const names = new Set(pieces.map(([piece]) => piece));
  if (names.size !== pieces.length) fail('names a piece of "model.vocab" twice');
  if (!names.has(SPECIAL_PIECES[0])) fail('has no piece "<pad>", which must be there as the CTC blank');

  const unknownId = model["unk_id"] ?? UNKNOWN_ID;
  if (typeof unknownId !== "number" || !Number.isInteger(unknownId) || unknownId < 0 || unknownId >= pieces.length) {
    return fail(`has "model.unk_id" ${JSON.stringify(unknownId)}, which must be an id from 0 to ${pieces.length - 1}`);
  }
  const addedTokens = json["added_tokens"] ?? [];
  if (!Array.isArray(addedTokens)) return fail('must have a list "added_tokens"');
  const special = new Set<string>(SPECIAL_PIECES);
  for (const entry of addedTokens) {
    const { id, content, special: isSpecial } = object(entry, "added_tokens[...]");
    // Added tokens name pieces of the model, or follow them one by one.
    if (typeof content === "string" && id === pieces.length && !names.has(content)) pieces.push([content, 0]);
    else if (typeof content !== "string" || typeof id !== "number" || pieces[id]?.[0] !== content) {
      return fail(
        `has the added token ${JSON.stringify(entry).slice(0, 100)}, which must repeat an id and piece of "model.vocab" or follow the last`,
      );
    }
    names.add(content);
    if (isSpecial === true) special.add(content);
  }
  return new Tokenizer(pieces, {
    unknownId,
    specialPieces: special,
    normalization: normalizationOf(json["normalizer"], fail),
  });
}

function normalizationOf(normalizer: JsonValue | undefined, fail: (problem: string) => never): "none" | "nfkc" {
  if (normalizer === undefined || normalizer === null) return "none";
  const type = typeof normalizer === "object" && !Array.isArray(normalizer) ? normalizer["type"] : undefined;
  // SentencePiece's precompiled map is NFKC with small additions for control characters.
  if (type === "NFKC" || type === "Precompiled") return "nfkc";
  return fail(`has a normalizer of type ${JSON.stringify(type)}; supported are none, "NFKC" and "Precompiled"`);
}
