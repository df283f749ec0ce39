/** `vocab.json` of wav2vec2 and its kin: one id for each character, now and then for several, and one for the space between words. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile, type JsonObject, type JsonValue } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import type { Segmentation } from "./bpe_model.js";
import { contentOf, specialTokensOf, tokenizerSettings } from "./special_tokens.js";
import { WORD_BEGIN, type TextPipeline } from "./text_pipeline.js";
import { Tokenizer } from "./tokenizer.js";
import { rankedVocabulary } from "./tokenizer_json.js";

/**
 * Reads `vocab.json`, `added_tokens.json` and what `tokenizer_config.json` and `special_tokens_map.json` say of them, as
 * Wav2Vec2CTCTokenizer does.
 * @param blankId the network's blank, `pad_token_id`
 * @param size of the network's vocabulary: added tokens beyond it, such as `<s>`, are never heard
 * @param ofLanguage `{token: id}` where the file has one vocabulary for each language; added tokens whose ids it has are none
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_TOKENIZER
 */
export function loadCtcVocabulary(folder: string, blankId: number, size = Infinity, ofLanguage?: JsonObject): Tokenizer {
  const path = join(folder, "vocab.json");
  const fail = (problem: string): never => {
    throw new UsmLiteError("BAD_TOKENIZER", `${path} ${problem}`);
  };
  const optional = (file: string): JsonObject => (existsSync(join(folder, file)) ? readJsonFile(join(folder, file), "BAD_TOKENIZER") : {});
  const vocabulary = ofLanguage ?? readJsonFile(path, "BAD_TOKENIZER");
  if (Object.values(vocabulary).some((value) => typeof value === "object")) {
    fail("has one vocabulary for each language, and tokenizer_config.json has no target_lang; name a language");
  }
  const config = tokenizerSettings(optional("tokenizer_config.json"), optional("special_tokens_map.json"));
  const setting = (key: string, standard: string): string => {
    const text = contentOf(config[key] ?? standard);
    return typeof text === "string" ? text : fail(`belongs to a tokenizer whose "${key}" is no text`);
  };
  const space = setting("replace_word_delimiter_char", " ");
  if (space !== " ") {
    fail(`belongs to a tokenizer_config.json whose "replace_word_delimiter_char" is ${JSON.stringify(space)}; it must be " "`);
  }
  const delimiter = setting("word_delimiter_token", "|");
  const unknown = setting("unk_token", "<unk>");
  const usual = [setting("pad_token", "<pad>"), unknown, setting("bos_token", "<s>"), setting("eos_token", "</s>")];
  const special = [...usual, ...specialTokensOf(config)];
  const added = { ...addedTokens(config["added_tokens_decoder"]), ...optional("added_tokens.json") };
  const taken = new Set(ofLanguage ? Object.values(ofLanguage).map(Number) : []);
  const heard = Object.entries(added).filter(([, id]) => !(Number(id) >= size) && !taken.has(Number(id)));
  const pieces = rankedVocabulary({ vocab: { ...Object.fromEntries(heard), ...vocabulary } }, fail);
  const unknownId = pieces.findIndex(([piece]) => piece === unknown);
  const spelled = pieces.map(([piece]) => (piece === delimiter ? WORD_BEGIN : piece));
  // The model hears capitals, and the tokenizer takes and gives small letters for them.
  const lower = config["do_lower_case"] === true;
  const pipeline: TextPipeline = (text) => [text.replaceAll(" ", WORD_BEGIN).replaceAll(delimiter, WORD_BEGIN)];
  return new Tokenizer(
    spelled.map((piece, id) => [lower && !special.includes(piece) && id !== blankId ? piece.toLowerCase() : piece, 0]),
    {
      blankId,
      unknownId: Math.max(unknownId, 0),
      specialPieces: special,
      cleansUp: config["clean_up_tokenization_spaces"] === true,
      segmentation: new CharacterVocabulary(new Map(spelled.map((piece, id) => [piece, id])), unknownId < 0 ? undefined : unknownId, lower),
      pipeline,
    },
  );
}

/** `{id: {content}}` as `{content: id}`. */
function addedTokens(decoder: JsonValue | undefined): JsonObject {
  if (typeof decoder !== "object" || decoder === null) return {};
  const tokens = Object.entries(decoder).map(([id, token]) => [contentOf(token), Number(id)] as const);
  return Object.fromEntries(tokens.filter((token): token is [string, number] => typeof token[0] === "string"));
}

/** Characters, or their capitals, and the longest piece of several where one stands. */
class CharacterVocabulary implements Segmentation {
  /** Longest first. */
  private readonly severalCharacters: readonly string[];

  constructor(
    private readonly ids: ReadonlyMap<string, number>,
    private readonly unknownId: number | undefined,
    private readonly capitals: boolean,
  ) {
    this.severalCharacters = [...ids.keys()].filter((piece) => [...piece].length > 1).sort((a, b) => b.length - a.length);
  }

  idOf(piece: string): number | undefined {
    return this.ids.get(piece);
  }

  segment(part: string): number[] {
    const ids: (number | undefined)[] = [];
    for (let at = 0; at < part.length;) {
      const longest = this.severalCharacters.find((piece) => part.startsWith(piece, at));
      const piece = longest ?? String.fromCodePoint(part.codePointAt(at) as number);
      // The capital of one letter may be two: SS.
      const symbols = longest === undefined && this.capitals ? [...piece.toUpperCase()] : [piece];
      ids.push(...symbols.map((symbol) => this.ids.get(symbol) ?? this.unknownId));
      at += piece.length;
    }
    return ids.filter((id) => id !== undefined);
  }
}
