/** Reading and writing JSON files, with errors that name the file. */
import { readFileSync, statSync } from "node:fs";
import { UsmLiteError, type UsmLiteErrorCode } from "../errors.js";
import { writeTextFile } from "./atomic_file.js";

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export interface JsonObject {
  [key: string]: JsonValue;
}

const MAXIMUM_BYTES = 100_000_000;
/** Whatever goes through values, to check or to show them, does so by recursion. */
const MAXIMUM_DEPTH = 200;

/**
 * Reads a JSON file whose outermost value must be an object.
 * @param code what an unreadable content is called: `BAD_CONFIG`, `BAD_TOKENIZER`, ...
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, or `code`
 */
export function readJsonFile(path: string, code: UsmLiteErrorCode): JsonObject {
  return parseJsonObject(readTextFile(path, code), path, code);
}

/**
 * Reads a UTF-8 text file of at most 100 MB.
 * @param hint what to say when it does not exist
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, or `code` when it is too large or not UTF-8
 */
export function readTextFile(path: string, code: UsmLiteErrorCode, hint?: string): string {
  let bytes: Uint8Array;
  try {
    if (statSync(path).size > MAXIMUM_BYTES) {
      throw new UsmLiteError(code, `${path} is larger than ${MAXIMUM_BYTES / 1e6} MB, too large for a text file`);
    }
    bytes = readFileSync(path);
  } catch (error) {
    throw error instanceof UsmLiteError ? error : unreadableFile(path, error, hint);
  }
  return decodeUtf8(bytes, path, code);
}

/** Writes `value` indented, whole or not at all. @throws UsmLiteError FILE_UNWRITABLE */
export function writeJsonFile(path: string, value: unknown): void {
  writeTextFile(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

/**
 * Parses a JSON object. Unlike `JSON.parse`, repeated keys are an error (two readers must not see two different files), and so are objects and
 * lists more than 200 deep.
 */
export function parseJsonObject(text: string, path: string, code: UsmLiteErrorCode): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UsmLiteError(code, `${path} is not valid JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsmLiteError(code, `${path} must hold a JSON object {...}, not ${Array.isArray(value) ? "an array" : String(value)}`);
  }
  const repeated = repeatedKey(text, () => {
    throw new UsmLiteError(code, `${path} has objects or lists more than ${MAXIMUM_DEPTH} deep in each other`);
  });
  if (repeated !== undefined) {
    throw new UsmLiteError(code, `${path} has the key ${JSON.stringify(repeated.slice(0, 200))} twice in one object; each may appear once`);
  }
  return value as JsonObject;
}

/** Bytes as text; malformed UTF-8 is an error instead of replacement characters. */
export function decodeUtf8(bytes: Uint8Array, path: string, code: UsmLiteErrorCode): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new UsmLiteError(code, `${path} is not UTF-8 text`, { cause: error });
  }
}

/** Turns an error of the file system into one with a stable code. */
export function unreadableFile(path: string, cause: unknown, hint?: string): UsmLiteError {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT")
    return new UsmLiteError("FILE_NOT_FOUND", `${path} does not exist${hint === undefined ? "" : `; ${hint}`}`, { cause });
  if (code === "EISDIR") return new UsmLiteError("FILE_UNREADABLE", `${path} is a folder; a file is expected`, { cause });
  if (code === "ENOTDIR")
    return new UsmLiteError("FILE_UNREADABLE", `${path} cannot be read: a part of its path is a file, not a folder`, { cause });
  return new UsmLiteError("FILE_UNREADABLE", `${path} cannot be read: ${message}`, { cause });
}

/** The first key that an object of `text`, which is valid JSON, holds twice. Calls `tooDeep` before it goes deeper than allowed. */
function repeatedKey(text: string, tooDeep: () => never): string | undefined {
  const keysOfOpenObjects: (Set<string> | undefined)[] = []; // undefined for an array
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (keysOfOpenObjects.length > MAXIMUM_DEPTH) tooDeep();
    if (character === "{") keysOfOpenObjects.push(new Set());
    else if (character === "[") keysOfOpenObjects.push(undefined);
    else if (character === "}" || character === "]") keysOfOpenObjects.pop();
    else if (character === '"') {
      const begin = i++;
      while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      let next = i + 1;
      while (/[ \t\r\n]/.test(text[next] ?? "")) next++;
      if (text[next] !== ":") continue; // a value
      const key = JSON.parse(text.slice(begin, i + 1)) as string; // escapes may spell the same key differently
      const keys = keysOfOpenObjects.at(-1) as Set<string>;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
