/** `vocab.json` of wav2vec2 and its kin: one id for each character, and one for the space between words. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import type { Segmentation } from "./bpe_model.js";
import { WORD_BEGIN, type TextPipeline } from "./text_pipeline.js";
import { Tokenizer } from "./tokenizer.js";
import { rankedVocabulary } from "./tokenizer_json.js";

/**
 * Reads `vocab.json`, `added_tokens.json` and what `tokenizer_config.json` says of them, as Wav2Vec2CTCTokenizer does.
 * @param blankId the network's blank, `pad_token_id`
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_TOKENIZER
 */
export function loadCtcVocabulary(folder: string, blankId: number): Tokenizer {
  const path = join(folder, "vocab.json");
  const fail = (problem: string): never => {
    throw new UsmLiteError("BAD_TOKENIZER", `${path} ${problem}`);
  };
  const optional = (file: string): JsonObject => (existsSync(join(folder, file)) ? readJsonFile(join(folder, file), "BAD_TOKENIZER") : {});
  const vocabulary = readJsonFile(path, "BAD_TOKENIZER");
  if (Object.values(vocabulary).some((value) => typeof value === "object")) {
    fail("has one vocabulary for each language; put the one of your language into the file");
  }
  const config = optional("tokenizer_config.json");
  const setting = (key: string, standard: string): string => {
    const value = config[key] ?? standard;
    // Special tokens may be written as objects with their text in `content`.
    const text = typeof value === "object" && !Array.isArray(value) ? value["content"] : value;
    return typeof text === "string" ? text : fail(`belongs to a tokenizer_config.json whose "${key}" is no text`);
  };
  const delimiter = setting("word_delimiter_token", "|");
  const special = [setting("pad_token", "<pad>"), setting("unk_token", "<unk>"), setting("bos_token", "<s>"), setting("eos_token", "</s>")];
  const pieces = rankedVocabulary({ vocab: { ...vocabulary, ...optional("added_tokens.json") } }, fail);
  const unknownId = pieces.findIndex(([piece]) => piece === special[1]);
  const spelled = pieces.map(([piece]): [string, number] => [piece === delimiter ? WORD_BEGIN : piece, 0]);
  // Wav2Vec2CTCTokenizer calls it lower case and means upper case.
  const upper = config["do_lower_case"] === true;
  const pipeline: TextPipeline = (text) => [(upper ? text.toUpperCase() : text).replaceAll(" ", WORD_BEGIN)];
  return new Tokenizer(spelled, {
    blankId,
    unknownId: Math.max(unknownId, 0),
    specialPieces: special,
    segmentation: new CharacterVocabulary(new Map(spelled.map(([piece], id) => [piece, id])), unknownId < 0 ? undefined : unknownId),
    pipeline,
  });
}

class CharacterVocabulary implements Segmentation {
  constructor(
    private readonly ids: ReadonlyMap<string, number>,
    private readonly unknownId: number | undefined,
  ) {}

  idOf(piece: string): number | undefined {
    return this.ids.get(piece);
  }

  segment(part: string): number[] {
    return Array.from(part, (character) => this.ids.get(character) ?? this.unknownId).filter((id) => id !== undefined);
  }
}
