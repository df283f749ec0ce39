/** `tokenizer.json` of Hugging Face tokenizers with a unigram model or byte-pair encoding over words that begin with U+2581. */
import type { JsonObject, JsonValue } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { BpeModel, type Segmentation } from "./bpe_model.js";
import { splitWords, textPipelineOf, type Fail, type TextPipeline } from "./text_pipeline.js";
import { MAXIMUM_PIECE_LENGTH, UnigramModel, type ScoredPiece } from "./unigram_model.js";

/** Pieces that are no text whatever the file says of them. */
export const SPECIAL_PIECES = ["<pad>", "</s>", "<unk>"] as const;
// LasrTokenizer hands characters outside of its pieces id 3 whatever stands there; here it is a space.
const UNKNOWN_ID = 3;

/** What the file says, in the form that a tokenizer is made of. */
export interface TokenizerParts {
  readonly pieces: readonly ScoredPiece[];
  readonly unknownId: number;
  readonly specialPieces: ReadonlySet<string>;
  readonly segmentation: Segmentation;
  readonly pipeline: TextPipeline;
}

/** @throws UsmLiteError BAD_TOKENIZER naming `path` and what is wrong */
export function tokenizerFromJson(json: JsonObject, path: string): TokenizerParts {
  const fail: Fail = (problem) => {
    throw new UsmLiteError("BAD_TOKENIZER", `${path} ${problem}`);
  };
  const model = objectOf(json["model"], "model", fail);
  const type = model["type"] ?? (model["merges"] === undefined ? "Unigram" : "BPE");
  if (type !== "Unigram" && type !== "BPE") {
    return fail(`has a model of type ${JSON.stringify(type)}; supported are "Unigram" and "BPE"`);
  }
  const vocabulary = type === "Unigram" ? scoredVocabulary(model, fail) : rankedVocabulary(model, fail);
  const { pieces, special } = withAddedTokens(vocabulary, json["added_tokens"], fail);
  const unknownId = type === "Unigram" ? unigramUnknown(model, vocabulary.length, fail) : bpeUnknown(model, pieces, fail);
  return {
    pieces,
    unknownId: unknownId ?? UNKNOWN_ID,
    specialPieces: special,
    segmentation:
      type === "Unigram"
        ? new UnigramModel(pieces, unknownId as number, model["byte_fallback"] === true)
        : bpeModel(model, pieces, unknownId, fail),
    // LasrTokenizer puts words together in its own way whatever the file says.
    pipeline: textPipelineOf(json, fail, type === "Unigram" ? splitWords : undefined),
  };
}

export function objectOf(value: JsonValue | undefined, name: string, fail: Fail): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : fail(`must have an object "${name}"`);
}

function scoredVocabulary(model: JsonObject, fail: Fail): ScoredPiece[] {
  const vocabulary = model["vocab"];
  if (!Array.isArray(vocabulary) || vocabulary.length === 0) return fail('must have a non-empty list "model.vocab"');
  const pieces = vocabulary.map((entry, id): ScoredPiece => {
    const [piece, score] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof piece !== "string" || piece === "" || typeof score !== "number" || !Number.isFinite(score)) {
      return fail(`entry ${id} of "model.vocab" must be [piece, score], got ${JSON.stringify(entry).slice(0, 100)}`);
    }
    if (piece.length > MAXIMUM_PIECE_LENGTH) {
      return fail(`has a piece of ${piece.length} characters as entry ${id} of "model.vocab"; ${MAXIMUM_PIECE_LENGTH} is the most`);
    }
    return [piece, score];
  });
  if (new Set(pieces.map(([piece]) => piece)).size !== pieces.length) fail('names a piece of "model.vocab" twice');
  return pieces;
}

/** Of byte-pair encoding: `{piece: id}` with ids from 0 on without holes. */
export function rankedVocabulary(model: JsonObject, fail: Fail): ScoredPiece[] {
  const entries = Object.entries(objectOf(model["vocab"], "model.vocab", fail));
  if (entries.length === 0) fail('must have a non-empty object "model.vocab"');
  const pieces: (ScoredPiece | undefined)[] = new Array<undefined>(entries.length).fill(undefined);
  for (const [piece, id] of entries) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= entries.length || pieces[id]) {
      return fail(
        `gives "${piece.slice(0, 50)}" of "model.vocab" the id ${JSON.stringify(id)}; ids must be 0..${entries.length - 1}, each once`,
      );
    }
    pieces[id] = [piece, 0];
  }
  return pieces as ScoredPiece[];
}

/** Added tokens name pieces of the model, or follow them one by one. */
export function withAddedTokens(
  vocabulary: readonly ScoredPiece[],
  added: JsonValue | undefined,
  fail: Fail,
): { pieces: ScoredPiece[]; special: Set<string> } {
  if (!Array.isArray(added ?? [])) return fail('must have a list "added_tokens"');
  const tokens = ((added ?? []) as JsonValue[]).map((entry) => objectOf(entry, "added_tokens[...]", fail));
  const pieces = [...vocabulary];
  const names = new Set(pieces.map(([piece]) => piece));
  const special = new Set<string>(SPECIAL_PIECES);
  for (const entry of tokens.sort((a, b) => Number(a["id"]) - Number(b["id"]))) {
    const { id, content, special: isSpecial } = entry;
    if (typeof content === "string" && id === pieces.length && !names.has(content)) pieces.push([content, 0]);
    else if (typeof content !== "string" || typeof id !== "number" || pieces[id]?.[0] !== content) {
      return fail(
        `has the added token ${JSON.stringify(entry).slice(0, 100)}, which must repeat an id and piece of "model.vocab" or follow the last`,
      );
    }
    names.add(content);
    if (isSpecial === true) special.add(content);
  }
  return { pieces, special };
}

function unigramUnknown(model: JsonObject, size: number, fail: Fail): number {
  const unknownId = model["unk_id"] ?? UNKNOWN_ID;
  if (typeof unknownId !== "number" || !Number.isInteger(unknownId) || unknownId < 0 || unknownId >= size) {
    return fail(`has "model.unk_id" ${JSON.stringify(unknownId)}, which must be an id from 0 to ${size - 1}`);
  }
  return unknownId;
}

function bpeUnknown(model: JsonObject, pieces: readonly ScoredPiece[], fail: Fail): number | undefined {
  const token = model["unk_token"] ?? undefined;
  if (token === undefined) return undefined;
  const id = pieces.findIndex(([piece]) => piece === token);
  return id >= 0 ? id : fail(`has "model.unk_token" ${JSON.stringify(token).slice(0, 100)}, which is no piece`);
}

function bpeModel(model: JsonObject, pieces: readonly ScoredPiece[], unknownId: number | undefined, fail: Fail): BpeModel {
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix", "dropout"]) {
    if (model[key] !== undefined && model[key] !== null && model[key] !== "") {
      fail(`has "model.${key}" ${JSON.stringify(model[key])}, which is not supported; null is`);
    }
  }
  const options = { unknownId, fuseUnknown: model["fuse_unk"] === true, byteFallback: model["byte_fallback"] === true };
  const ids = new Map(pieces.map(([piece], id) => [piece, id]));
  try {
    return new BpeModel(ids, mergesOf(model, fail), options);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fail(`has wrong "model.merges": ${error.message}`);
  }
}

/** `["a b", ..]`, or `[["a", "b"], ..]` as newer versions write it. */
export function mergesOf(model: JsonObject, fail: Fail): [string, string][] {
  const merges = model["merges"];
  if (!Array.isArray(merges)) return fail('must have a list "model.merges"');
  return merges.map((merge, index) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    const [left, right] = Array.isArray(pair) && pair.length === 2 ? pair : [];
    if (typeof left === "string" && typeof right === "string") return [left, right];
    return fail(`entry ${index} of "model.merges" must be two pieces, got ${JSON.stringify(merge).slice(0, 100)}`);
  });
}
