/** The file format of n-gram language models, described in docs/format.md. Files are untrusted: all is checked. */
import { readFileSync, statSync } from "node:fs";
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";
import { writeFileAtomically } from "../checkpoint/atomic_file.js";
import { decodeUtf8, unreadableFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { FIRST_WORD, NgramLanguageModel, type NgramTree } from "./ngram_language_model.js";

const MAGIC = "UNGRAM01";
const HEADER_BYTES = 16;
const MAXIMUM_PAYLOAD_BYTES = 2 ** 30;
const MAXIMUM_ORDER = 6;

/**
 * Writes a language model, whole or not at all.
 * @throws UsmLiteError FILE_UNWRITABLE
 *
 * @example
 * writeLanguageModel("packed/language_model.bin", trainLanguageModel(["THE CAT SAT", "THE DOG SAT"]));
 */
export function writeLanguageModel(path: string, model: NgramLanguageModel): void {
  const bytes = encodeLanguageModel(model);
  writeFileAtomically(path, (append) => append(bytes));
}

/**
 * Reads a file that {@link writeLanguageModel} wrote.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_LANGUAGE_MODEL
 *
 * @example
 * const scorer = new LanguageModelScorer(readLanguageModel("packed/language_model.bin"), tokenizer);
 */
export function readLanguageModel(path: string): NgramLanguageModel {
  let bytes: Uint8Array;
  try {
    if (statSync(path).size > MAXIMUM_PAYLOAD_BYTES) {
      throw new UsmLiteError("BAD_LANGUAGE_MODEL", `${path} is larger than 1 GiB, the limit of a language model`);
    }
    bytes = readFileSync(path);
  } catch (error) {
    throw error instanceof UsmLiteError ? error : unreadableFile(path, error);
  }
  return decodeLanguageModel(bytes, path);
}

export function encodeLanguageModel({ tree }: NgramLanguageModel): Uint8Array {
  const text = Buffer.from(tree.words.map((word) => `${word}\n`).join(""), "utf8");
  const numbers: number[] = [tree.order, tree.words.length, text.length, tree.word.length];
  for (let node = 0; node < tree.word.length; node++) {
    const begin = tree.firstChild[node] as number;
    const end = tree.firstChild[node + 1] as number;
    if (node === 0) continue; // its children are all words
    numbers.push(end - begin);
    for (let child = begin, previous = -1; child < end; previous = tree.word[child++] as number) {
      numbers.push((tree.word[child] as number) - previous - 1);
    }
  }
  const payload = Buffer.concat([varints(numbers), text, tree.probability, tree.backoff]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, "latin1");
  header.writeUInt32LE(payload.length, 8);
  header.writeUInt32LE(crc32(payload), 12);
  return Buffer.concat([header, deflateRawSync(payload, { level: 9 })]);
}

/** @param path only named in errors */
export function decodeLanguageModel(bytes: Uint8Array, path: string): NgramLanguageModel {
  const fail = (problem: string): never => {
    throw new UsmLiteError("BAD_LANGUAGE_MODEL", `${path} ${problem}`);
  };
  const payload = payloadOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), fail);
  const reader = new VarintReader(payload, fail);
  const order = reader.number("the order");
  if (order < 1 || order > MAXIMUM_ORDER) fail(`has order ${order}; it must be from 1 to ${MAXIMUM_ORDER}`);
  const wordCount = reader.number("the number of words");
  const textBytes = reader.number("the length of the words");
  const nodes = reader.number("the number of n-grams");
  // Every n-gram takes at least two bytes, which bounds what is allocated here by the size of the payload.
  if (nodes < 1 + FIRST_WORD + wordCount || 2 * nodes + textBytes > payload.length) fail(`cannot hold ${nodes} n-grams`);

  const word = new Int32Array(nodes).fill(-1);
  const firstChild = new Int32Array(nodes + 1);
  let filled = 1;
  for (let id = 0; id < FIRST_WORD + wordCount; id++) word[filled++] = id;
  firstChild[0] = 1;
  let level = 1;
  let levelEnd = filled;
  for (let node = 1; node < nodes; node++) {
    if (node === levelEnd) {
      level++;
      levelEnd = filled;
    }
    firstChild[node] = filled;
    const count = reader.number("a number of n-grams");
    if (count > nodes - filled || (count > 0 && level >= order)) fail("has more n-grams than it says, or longer ones");
    for (let previous = -1, i = 0; i < count; i++) {
      previous += 1 + reader.number("a word");
      if (previous >= FIRST_WORD + wordCount) fail(`has an n-gram of word ${previous}, but only ${FIRST_WORD + wordCount} words`);
      word[filled++] = previous;
    }
  }
  firstChild[nodes] = nodes;
  if (filled !== nodes) fail(`has ${filled} n-grams, not ${nodes} as it says`);
  const rest = payload.subarray(reader.position);
  if (rest.length !== textBytes + 2 * nodes) fail(`has ${rest.length} bytes of words and codes where ${textBytes + 2 * nodes} are needed`);
  const words = wordsOf(decodeUtf8(rest.subarray(0, textBytes), path, "BAD_LANGUAGE_MODEL"), wordCount, fail);
  const tree: NgramTree = {
    order,
    words,
    word,
    firstChild,
    probability: new Uint8Array(rest.subarray(textBytes, textBytes + nodes)),
    backoff: new Uint8Array(rest.subarray(textBytes + nodes)),
  };
  try {
    return new NgramLanguageModel(tree);
  } catch (error) {
    return fail(`is damaged: ${(error as Error).message}`);
  }
}

type Fail = (problem: string) => never;

function payloadOf(bytes: Buffer, fail: Fail): Buffer {
  if (bytes.length < HEADER_BYTES || bytes.toString("latin1", 0, 8) !== MAGIC) {
    fail(`is not a language model of this package: it must begin with "${MAGIC}"`);
  }
  const length = bytes.readUInt32LE(8);
  if (length > MAXIMUM_PAYLOAD_BYTES) fail(`says it holds ${length} bytes, more than the limit of 1 GiB`);
  let payload: Buffer;
  try {
    payload = inflateRawSync(bytes.subarray(HEADER_BYTES), { maxOutputLength: Math.max(1, length) });
  } catch (error) {
    return fail(`cannot be decompressed: ${(error as Error).message}`);
  }
  if (payload.length !== length || crc32(payload) !== bytes.readUInt32LE(12)) fail("is damaged: its length or checksum is wrong");
  return payload;
}

function wordsOf(text: string, count: number, fail: Fail): string[] {
  const words = text.split("\n");
  if (words.pop() !== "" || words.length !== count) fail(`has ${words.length} words, not ${count} as it says`);
  for (let i = 0; i < count; i++) {
    const word = words[i] as string;
    if (word === "" || /\s/.test(word) || (i > 0 && word <= (words[i - 1] as string))) {
      fail(`has the word ${JSON.stringify(word.slice(0, 50))} out of order, empty, or with a space`);
    }
  }
  return words;
}

/** Seven bits a byte, low ones first; the high bit says that more follow (LEB128). */
function varints(numbers: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  for (let number of numbers) {
    for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
    bytes.push(number);
  }
  return Uint8Array.from(bytes);
}

class VarintReader {
  position = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly fail: Fail,
  ) {}

  /** The next number, below 2^35. */
  number(name: string): number {
    const first = this.bytes[this.position] as number;
    if (first < 128) {
      this.position++;
      return first; // nearly all are
    }
    let value = 0;
    for (let scale = 1; scale < 2 ** 35; scale *= 128) {
      const byte = this.bytes[this.position++];
      if (byte === undefined) return this.fail(`ends within ${name}`);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    return this.fail(`has too large a number for ${name}`);
  }
}
