/** Pronunciations in the format of CMUdict: targets of an intermediate loss that teach sounds before spelling. */
import { readTextFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { normalizeText } from "./normalize.js";

/** Words as phone sequences. Symbol 0 is the CTC blank. */
export class PronouncingDictionary {
  /** Names of the symbols; the first is the blank. */
  readonly symbols: readonly string[];
  private readonly ids: ReadonlyMap<string, number>;

  constructor(private readonly words: ReadonlyMap<string, readonly string[]>) {
    const phones = [...new Set([...words.values()].flat())].sort();
    const letters = [..."'ABCDEFGHIJKLMNOPQRSTUVWXYZ"].map((letter) => `<${letter}>`);
    this.symbols = ["<blank>", ...phones, ...letters];
    this.ids = new Map(this.symbols.map((symbol, id) => [symbol, id]));
  }

  /**
   * Reads lines `WORD  PHONE PHONE ..`; stress digits are dropped, `WORD(2)` and later variants ignored, `;;;` begins a
   * comment.
   * @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG naming file and line
   */
  static read(path: string): PronouncingDictionary {
    const words = new Map<string, string[]>();
    readTextFile(path, "BAD_CONFIG")
      .split("\n")
      .forEach((line, index) => {
        if (line.trim() === "" || line.startsWith(";;;")) return;
        const [word = "", ...phones] = line.replace(/ #.*$/, "").trim().split(/\s+/); // "# foreign" and the like
        if (phones.length === 0) {
          throw new UsmLiteError("BAD_CONFIG", `${path}:${index + 1}: "${word}" has no phones; a line is WORD PHONE PHONE ..`);
        }
        if (/\(\d+\)$/.test(word)) return;
        words.set(
          word.toUpperCase(),
          phones.map((phone) => phone.replace(/\d$/, "")),
        );
      });
    return new PronouncingDictionary(words);
  }

  /** Whether the word, in upper case, is in the dictionary. */
  has(word: string): boolean {
    return this.words.has(word);
  }

  /** Symbols of a transcript. A word that is not in the dictionary is spelled with letter symbols. */
  encode(text: string): number[] {
    return normalizeText(text)
      .split(" ")
      .flatMap((word) => this.words.get(word) ?? [...word].map((letter) => `<${letter}>`))
      .map((symbol) => this.ids.get(symbol) as number);
  }
}
