/**
 * Byte-level byte-pair encoding (Radford et al. 2019, GPT-2), as Whisper uses it: text is cut into words, words into UTF-8
 * bytes, and bytes are merged. Read from `tokenizer.json`, or from `vocab.json`, `merges.txt` and `added_tokens.json`.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile, readTextFile, type JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { BpeModel } from "./bpe_model.js";
import { SPACES, type Fail } from "./text_pipeline.js";
import type { TextTokenizer } from "./text_tokenizer.js";
import { mergesOf, objectOf, rankedVocabulary, withAddedTokens } from "./tokenizer_json.js";
import type { ScoredPiece } from "./unigram_model.js";

// Contractions, words, numbers and runs of other characters, each with the space before it; then white space.
const WORDS = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACES}\\p{L}\\p{N}]+|[${SPACES}]+(?![^${SPACES}])|[${SPACES}]+`,
  "gu",
);

export class ByteLevelTokenizer implements TextTokenizer {
  readonly separator = "";
  private readonly ids: ReadonlyMap<string, number>;
  private readonly bytes: readonly Uint8Array[];
  private readonly model: BpeModel;

  /**
   * @param pieces by id; those of the model spell bytes as printable characters
   * @param special pieces that are no text: `<|endoftext|>`, languages, tasks, times
   * @param addPrefixSpace whether text that begins with no space gets one
   * @throws RangeError when a merge names no piece
   */
  constructor(
    private readonly pieces: readonly string[],
    merges: Iterable<readonly [string, string]>,
    private readonly special: ReadonlySet<number>,
    private readonly addPrefixSpace = false,
  ) {
    this.ids = new Map(pieces.map((piece, id) => [piece, id]));
    this.model = new BpeModel(this.ids, merges);
    const encoder = new TextEncoder();
    this.bytes = pieces.map((piece, id) => {
      const spelled = Array.from(piece, (character) => byteOfCharacter.get(character));
      const isText = !special.has(id) && spelled.every((byte) => byte !== undefined);
      return isText ? Uint8Array.from(spelled as number[]) : encoder.encode(piece);
    });
  }

  /** Number of ids. */
  get size(): number {
    return this.pieces.length;
  }

  idOf(piece: string): number | undefined {
    return this.ids.get(piece);
  }

  /** A piece as the file spells it: `Ġthe`, `<|en|>`. */
  piece(id: number): string {
    return this.pieces[id] ?? this.unknown(id);
  }

  /** Whether an id is no text. Ids beyond the vocabulary, such as times that were not written into it, are none either. */
  isSpecial(id: number): boolean {
    return id >= this.pieces.length || this.special.has(id);
  }

  /** Without special tokens. */
  encode(text: string): number[] {
    const prefix = this.addPrefixSpace && text !== "" && !text.startsWith(" ") ? " " : "";
    return Array.from((prefix + text).matchAll(WORDS), ([word]) => word).flatMap((word) =>
      this.model.segment(Array.from(new TextEncoder().encode(word), (byte) => characterOfByte[byte]).join("")),
    );
  }

  /** Special tokens are left out; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>): string {
    const parts = [...ids].filter((id) => !this.isSpecial(id)).map((id) => this.bytes[id] as Uint8Array);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(parts));
  }

  /** @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_TOKENIZER */
  static load(folder: string): ByteLevelTokenizer {
    const path = join(folder, "tokenizer.json");
    if (existsSync(path)) return fromJson(readJsonFile(path, "BAD_TOKENIZER"), path);
    return fromVocabulary(folder);
  }

  private unknown(id: number): never {
    throw new UsmLiteError("INVALID_ARGUMENT", `id ${id} does not exist: this tokenizer has ids 0..${this.size - 1}`);
  }
}

// Printable characters of Latin-1 stand for themselves, other bytes for the characters from U+0100 on.
const isPrintable = (byte: number): boolean => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
let unprintable = 0;
const characterOfByte = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : 256 + unprintable++));
const byteOfCharacter = new Map(characterOfByte.map((character, byte) => [character, byte]));

function fromJson(json: JsonObject, path: string): ByteLevelTokenizer {
  const fail = failing(path);
  const model = objectOf(json["model"], "model", fail);
  if ((model["type"] ?? "BPE") !== "BPE") fail(`has a model of type ${JSON.stringify(model["type"])}; only "BPE" is supported`);
  const preTokenizer = objectOf(json["pre_tokenizer"], "pre_tokenizer", fail);
  if (preTokenizer["type"] !== "ByteLevel") {
    fail(`has a pre_tokenizer of type ${JSON.stringify(preTokenizer["type"])}; tokenizers of this family have "ByteLevel"`);
  }
  if (preTokenizer["use_regex"] === false) fail('has a pre_tokenizer whose "use_regex" is false, which is not supported');
  if (json["normalizer"] !== undefined && json["normalizer"] !== null) {
    fail("has a normalizer, which byte-level tokenizers do not have");
  }
  const addPrefixSpace = preTokenizer["add_prefix_space"] !== false;
  return tokenizerOf(rankedVocabulary(model, fail), mergesOf(model, fail), json["added_tokens"], addPrefixSpace, fail);
}

function fromVocabulary(folder: string): ByteLevelTokenizer {
  const path = join(folder, "vocab.json");
  const fail = failing(path);
  const vocabulary = rankedVocabulary({ vocab: readJsonFile(path, "BAD_TOKENIZER") }, fail);
  const mergesPath = join(folder, "merges.txt");
  const merges = readTextFile(mergesPath, "BAD_TOKENIZER")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#version"));
  const addedPath = join(folder, "added_tokens.json");
  const added = existsSync(addedPath) ? readJsonFile(addedPath, "BAD_TOKENIZER") : {};
  const tokens = Object.entries(added).map(([content, id]) => ({ id, content, special: true }));
  return tokenizerOf(vocabulary, mergesOf({ merges }, failing(mergesPath)), tokens, false, fail);
}

function tokenizerOf(
  vocabulary: readonly ScoredPiece[],
  merges: [string, string][],
  added: Parameters<typeof withAddedTokens>[1],
  addPrefixSpace: boolean,
  fail: Fail,
): ByteLevelTokenizer {
  const { pieces, special } = withAddedTokens(vocabulary, added, fail);
  const names = pieces.map(([piece]) => piece);
  // Whisper's times are added tokens that its files do not always call special.
  const isSpecial = (piece: string): boolean => special.has(piece) || /^<\|.*\|>$/.test(piece);
  const specialIds = new Set(names.flatMap((piece, id) => (isSpecial(piece) ? [id] : [])));
  try {
    return new ByteLevelTokenizer(names, merges, specialIds, addPrefixSpace);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fail(`has wrong merges: ${error.message}`);
  }
}

const failing =
  (path: string): Fail =>
  (problem) => {
    throw new UsmLiteError("BAD_TOKENIZER", `${path} ${problem}`);
  };
