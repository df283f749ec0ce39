/**
 * SentencePiece model files (Kudo and Richardson 2018): a protocol-buffer message of pieces with scores, of type unigram or
 * byte-pair encoding. Field numbers are those of sentencepiece_model.proto.
 */
import { readFileSync } from "node:fs";
import { unreadableFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { BpeModel, type RankedMerge, type Segmentation } from "./bpe_model.js";
import { CharacterMap } from "./character_map.js";
import { wordPipeline, type TextPipeline } from "./text_pipeline.js";
import { Tokenizer } from "./tokenizer.js";
import { MAXIMUM_PIECE_LENGTH, UnigramModel, type ScoredPiece } from "./unigram_model.js";

const MODEL = { pieces: 1, trainer: 2, normalizer: 3 } as const;
const PIECE = { text: 1, score: 2, type: 3 } as const;
const TRAINER = { modelType: 3, byteFallback: 35 } as const;
const NORMALIZER = { charactersMap: 2, addDummyPrefix: 3 } as const;
const modelTypes = { 1: "unigram", 2: "bpe" } as const;
const pieceTypes = { unknown: 2, control: 3, unused: 5 } as const;

/**
 * @param blankId the network's blank: one of the pieces, or the id after the last
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_TOKENIZER
 */
export function loadSentencePiece(path: string, blankId: number): Tokenizer {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw unreadableFile(path, error);
  }
  try {
    return tokenizerOf(bytes, blankId);
  } catch (error) {
    if (!(error instanceof RangeError) && !(error instanceof UsmLiteError)) throw error;
    throw new UsmLiteError("BAD_TOKENIZER", `${path}: ${error.message}`, { cause: error });
  }
}

function tokenizerOf(bytes: Uint8Array, blankId: number): Tokenizer {
  const pieces: ScoredPiece[] = [];
  const special: string[] = [];
  let unknownId: number | undefined;
  let modelType = 1;
  let byteFallback = false;
  let charactersMap: Uint8Array = new Uint8Array();
  let addDummyPrefix = true;
  for (const { number, value } of fields(bytes)) {
    if (number === MODEL.pieces && value instanceof Uint8Array) {
      let [text, score, type] = ["", 0, 1];
      for (const part of fields(value)) {
        if (part.number === PIECE.text) text = textOf(part.value);
        else if (part.number === PIECE.score) score = floatOf(part.value);
        else if (part.number === PIECE.type) type = Number(part.value);
      }
      if (text === "") throw new RangeError(`piece ${pieces.length} is empty`);
      if (text.length > MAXIMUM_PIECE_LENGTH) {
        throw new RangeError(`piece ${pieces.length} has ${text.length} characters; ${MAXIMUM_PIECE_LENGTH} is the most`);
      }
      if (type === pieceTypes.unknown) unknownId = pieces.length;
      if (type === pieceTypes.unknown || type === pieceTypes.control || type === pieceTypes.unused) special.push(text);
      pieces.push([text, score]);
    } else if (number === MODEL.trainer && value instanceof Uint8Array) {
      for (const part of fields(value)) {
        if (part.number === TRAINER.modelType) modelType = Number(part.value);
        else if (part.number === TRAINER.byteFallback) byteFallback = Number(part.value) === 1;
      }
    } else if (number === MODEL.normalizer && value instanceof Uint8Array) {
      for (const part of fields(value)) {
        if (part.number === NORMALIZER.charactersMap && part.value instanceof Uint8Array) charactersMap = part.value;
        else if (part.number === NORMALIZER.addDummyPrefix) addDummyPrefix = Number(part.value) === 1;
      }
    }
  }
  if (pieces.length === 0) throw new RangeError("is no SentencePiece model: it holds no pieces");
  if (new Set(pieces.map(([piece]) => piece)).size !== pieces.length) throw new RangeError("holds a piece twice");
  if (unknownId === undefined) throw new RangeError("holds no piece for what is unknown, which every SentencePiece model has");
  const kind = modelTypes[modelType as keyof typeof modelTypes];
  if (!kind) throw new RangeError(`is of model type ${modelType}; supported are 1 (unigram) and 2 (byte-pair encoding)`);
  if (!addDummyPrefix) throw new RangeError("puts no space before the first word (add_dummy_prefix), which is not supported");
  const segmentation =
    kind === "unigram" ? new UnigramModel(pieces, unknownId, byteFallback) : bpeOf(pieces, special, unknownId, byteFallback);
  return new Tokenizer(pieces, { unknownId, specialPieces: special, blankId, segmentation, pipeline: pipelineOf(charactersMap) });
}

/** Whatever its rules are called, the file holds the map that they make; without one text stays as it is. */
function pipelineOf(charactersMap: Uint8Array): TextPipeline {
  if (charactersMap.length === 0) return wordPipeline;
  const map = new CharacterMap(charactersMap);
  return (text) => wordPipeline(map.replaceLongest(text));
}

/** SentencePiece merges whatever makes the piece of the highest score: every way to make a piece has its rank. */
function bpeOf(pieces: readonly ScoredPiece[], special: readonly string[], unknownId: number, byteFallback: boolean): Segmentation {
  const left = new Set(special);
  const ids = new Map(pieces.flatMap(([piece], id) => (left.has(piece) ? [] : [[piece, id] as const])));
  const ranked = pieces.filter(([piece]) => ids.has(piece)).sort(([, a], [, b]) => b - a);
  const merges = ranked.flatMap(([piece], rank): RankedMerge[] => {
    const characters = [...piece];
    return characters.slice(1).flatMap((_, i): RankedMerge[] => {
      const parts = [characters.slice(0, i + 1).join(""), characters.slice(i + 1).join("")] as const;
      return parts.every((part) => ids.has(part)) ? [[...parts, rank]] : [];
    });
  });
  return new BpeModel(ids, merges, { unknownId, fuseUnknown: true, byteFallback });
}

interface Field {
  readonly number: number;
  /** A number, or the bytes of a fixed-width or length-delimited field. */
  readonly value: bigint | Uint8Array;
}

/** The fields of a protocol-buffer message. @throws RangeError when it ends inside a field or has one of an unknown kind */
function* fields(bytes: Uint8Array): Generator<Field> {
  let position = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[position++];
      if (byte === undefined) throw new RangeError("ends inside a number");
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new RangeError("holds a number that is too long");
  };
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - position) throw new RangeError("ends inside a field");
    position += length;
    return bytes.subarray(position - length, position);
  };
  while (position < bytes.length) {
    const key = varint();
    const number = Number(key >> 3n);
    switch (Number(key & 7n)) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        yield { number, value: take(8) };
        break;
      case 2:
        yield { number, value: take(Number(varint())) };
        break;
      case 5:
        yield { number, value: take(4) };
        break;
      default:
        throw new RangeError(`is no protocol-buffer message: field ${number} is of an unknown kind`);
    }
  }
}

function textOf(value: bigint | Uint8Array): string {
  if (!(value instanceof Uint8Array)) throw new RangeError("holds a number where a text belongs");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    throw new RangeError("holds text that is not UTF-8");
  }
}

function floatOf(value: bigint | Uint8Array): number {
  if (!(value instanceof Uint8Array) || value.length !== 4) throw new RangeError("holds a score that is no 32-bit float");
  const score = new DataView(value.buffer, value.byteOffset, 4).getFloat32(0, true);
  if (!Number.isFinite(score)) throw new RangeError("holds a score that is not finite");
  return score;
}
