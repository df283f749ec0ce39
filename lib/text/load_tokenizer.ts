/** The tokenizer of a model folder, whatever files it comes in. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readTextFile, type JsonObject } from "../checkpoint/json_file.js";
import { ByteLevelTokenizer } from "./byte_level_tokenizer.js";
import { loadCtcVocabulary } from "./ctc_vocabulary.js";
import { loadSentencePiece } from "./sentencepiece_model.js";
import type { TextTokenizer } from "./text_tokenizer.js";
import { Tokenizer } from "./tokenizer.js";

const sentencePieceNames = ["tokenizer.model", "sentencepiece.model", "sentencepiece.bpe.model", "spiece.model", "spm.model"];

/** Files that a tokenizer may consist of: they go where the model goes. */
export const tokenizerFiles = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  ...sentencePieceNames,
];

/**
 * Reads `tokenizer.json`, else a SentencePiece model, else `vocab.json`; undefined when there is none of them.
 * @param blankId the network's blank
 * @param size of the network's vocabulary
 * @param ofLanguage `{token: id}` where `vocab.json` has one vocabulary for each language
 * @throws UsmLiteError BAD_TOKENIZER naming the file
 */
export function loadTokenizer(folder: string, blankId: number, size?: number, ofLanguage?: JsonObject): Tokenizer | undefined {
  if (existsSync(join(folder, "tokenizer.json"))) return Tokenizer.load(folder, blankId);
  const sentencePiece = sentencePieceNames.find((name) => existsSync(join(folder, name)));
  if (sentencePiece) return loadSentencePiece(join(folder, sentencePiece), blankId);
  if (existsSync(join(folder, "vocab.json"))) return loadCtcVocabulary(folder, blankId, size, ofLanguage);
  return undefined;
}

/**
 * Reads the tokenizer of a sequence-to-sequence model: of bytes, or of words; undefined when there is none.
 * @param endId ends a text, and is none
 * @throws UsmLiteError BAD_TOKENIZER naming the file
 */
export function loadTextTokenizer(folder: string, endId: number): TextTokenizer | undefined {
  const json = join(folder, "tokenizer.json");
  const isBytes = existsSync(json) ? readTextFile(json, "BAD_TOKENIZER").includes('"ByteLevel"') : existsSync(join(folder, "merges.txt"));
  return isBytes ? ByteLevelTokenizer.load(folder) : loadTokenizer(folder, endId);
}
