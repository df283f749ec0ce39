/**
 * What happens to text before it is cut into pieces: the `normalizer` and `pre_tokenizer` of a `tokenizer.json`, in the
 * form of Hugging Face tokenizers. Only what speech recognition checkpoints use; anything else is refused by name.
 */
import type { JsonObject, JsonValue } from "../checkpoint/json_file.js";
import { CharacterMap } from "./character_map.js";
import { ForeignExpression } from "./foreign_expression.js";

/** Stands for the space before a word. */
export const WORD_BEGIN = "\u2581";

/** Text to the parts that pieces do not cross. */
export type TextPipeline = (text: string) => string[];

/** Reports what is wrong with the file, from "has a .." on. */
export type Fail = (problem: string) => never;

type Normalize = (text: string) => string;
/** A part of a text, and whether the text begins with it. */
interface Part {
  readonly text: string;
  readonly isFirst: boolean;
}
type Split = (parts: readonly Part[]) => Part[];

/** White space of Unicode in a character class, as Rust and Oniguruma know it; JavaScript's \s differs at U+0085 and U+FEFF. */
export const SPACES = "\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const WHITESPACE = new RegExp(`[${SPACES}]+`);
const LEADING = new RegExp(`^[${SPACES}]+`);
const TRAILING = new RegExp(`[${SPACES}]+$`);

/** Words between white space, each with {@link WORD_BEGIN} before it: `WhitespaceSplit`, then `Metaspace`. */
export const wordPipeline: TextPipeline = (text) => textsOf(splitWords(withoutEmpty([{ text, isFirst: true }])));

/** The pipeline of a parsed `tokenizer.json`. */
export function textPipelineOf(json: JsonObject, fail: Fail, defaultSplit: Split = identity): TextPipeline {
  const normalize = normalizerOf(json["normalizer"], fail);
  const preTokenizer = json["pre_tokenizer"];
  const split = isAbsent(preTokenizer) ? defaultSplit : preTokenizerOf(preTokenizer, fail);
  return (text) => textsOf(split(withoutEmpty([{ text: normalize(text), isFirst: true }])));
}

/** {@link wordPipeline} as a step of another one. */
export const splitWords: Split = (parts) => metaspace({ prepend: "always", split: true })(splitWhitespace(parts));

function normalizerOf(value: JsonValue | undefined, fail: Fail): Normalize {
  if (isAbsent(value)) return (text) => text;
  const { type, json } = typed(value, "normalizer", fail);
  switch (type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return (text) => text.normalize(type);
    case "Precompiled": {
      const map = characterMapOf(textOf(json["precompiled_charsmap"], "normalizer.precompiled_charsmap", fail), fail);
      return (text) => map.replaceGraphemes(text);
    }
    case "Lowercase":
      return (text) => text.toLowerCase();
    case "Strip":
      return (text) => {
        const from = json["strip_left"] === false ? text : text.replace(LEADING, "");
        return json["strip_right"] === false ? from : from.replace(TRAILING, "");
      };
    case "Prepend": {
      const prefix = textOf(json["prepend"], "normalizer.prepend", fail);
      return (text) => (text === "" ? text : prefix + text);
    }
    case "Replace": {
      const pattern = patternOf(json["pattern"], "normalizer.pattern", fail);
      const content = textOf(json["content"], "normalizer.content", fail);
      return (text) => pattern.replace(text, content);
    }
    case "Sequence": {
      const steps = listOf(json["normalizers"], "normalizer.normalizers", fail).map((step) => normalizerOf(step, fail));
      return (text) => steps.reduce((result, step) => step(result), text);
    }
    default:
      return fail(
        `has a normalizer of type ${JSON.stringify(type)}; supported are NFC, NFD, NFKC, NFKD, Precompiled, Lowercase, Strip, Prepend, Replace and Sequence`,
      );
  }
}

function characterMapOf(base64: string, fail: Fail): CharacterMap {
  const bytes = Buffer.from(base64, "base64");
  if (bytes.toString("base64") !== base64) return fail('has a "normalizer.precompiled_charsmap" that is not base64');
  try {
    return new CharacterMap(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fail(`has a "normalizer.precompiled_charsmap" that ${error.message}`);
  }
}

function preTokenizerOf(value: JsonValue | undefined, fail: Fail): Split {
  const { type, json } = typed(value, "pre_tokenizer", fail);
  switch (type) {
    case "WhitespaceSplit":
      return splitWhitespace;
    case "Metaspace": {
      const { replacement, prepend_scheme, add_prefix_space, split } = json;
      if (replacement !== undefined && replacement !== WORD_BEGIN) {
        fail(`has a Metaspace replacement ${JSON.stringify(replacement)}; only "${WORD_BEGIN}" is supported`);
      }
      const prepend = prepend_scheme ?? (add_prefix_space === false ? "never" : "always");
      if (prepend !== "always" && prepend !== "first" && prepend !== "never") {
        return fail(`has the prepend_scheme ${JSON.stringify(prepend)}; it must be always, first or never`);
      }
      return metaspace({ prepend, split: split !== false });
    }
    case "Split": {
      // Only what removes or isolates runs of a pattern; SentencePiece conversions split at line ends.
      const pattern = patternOf(json["pattern"], "pre_tokenizer.pattern", fail);
      const behavior = textOf(json["behavior"], "pre_tokenizer.behavior", fail);
      if (json["invert"] === true || !["Removed", "Isolated", "Contiguous"].includes(behavior)) {
        return fail(`has a Split of behavior ${JSON.stringify(behavior)}; supported are Removed, Isolated and Contiguous`);
      }
      return cutting((text) => splitAt(text, pattern, behavior));
    }
    case "Sequence": {
      const steps = listOf(json["pretokenizers"], "pre_tokenizer.pretokenizers", fail).map((step) => preTokenizerOf(step, fail));
      return (parts) => steps.reduce((result, step) => step(result), [...parts]);
    }
    default:
      return fail(`has a pre_tokenizer of type ${JSON.stringify(type)}; supported are WhitespaceSplit, Metaspace, Split and Sequence`);
  }
}

/** Spaces become {@link WORD_BEGIN}, and one is put before a part that has none; then parts begin at each of them. */
function metaspace({ prepend, split }: { prepend: "always" | "first" | "never"; split: boolean }): Split {
  const mark: Split = (parts) =>
    parts.map(({ text, isFirst }) => {
      const marked = text.replaceAll(" ", WORD_BEGIN);
      const wanted = (prepend === "always" || (prepend === "first" && isFirst)) && !marked.startsWith(WORD_BEGIN);
      return { text: wanted ? WORD_BEGIN + marked : marked, isFirst };
    });
  return split ? (parts) => splitAtMarks(mark(parts)) : mark;
}

/** Cuts every part; what is cut off at the beginning leaves an empty text, so that what follows is not the first part. */
const cutting =
  (cut: (text: string) => readonly string[]): Split =>
  (parts) =>
    withoutEmpty(parts.flatMap((part) => cut(part.text).map((text, index) => ({ text, isFirst: part.isFirst && index === 0 }))));

const splitWhitespace = cutting((text) => text.split(WHITESPACE));
const splitAtMarks = cutting((text) => text.split(new RegExp(`(?=${WORD_BEGIN})`)));

function splitAt(part: string, pattern: Pattern, behavior: string): string[] {
  const pieces: string[] = [];
  let end = 0;
  let lastMatchEnd = -1;
  for (const match of pattern.matches(part)) {
    if (match[0] === "") continue;
    if (match.index > end) pieces.push(part.slice(end, match.index));
    else if (match.index === 0 && behavior === "Removed") pieces.push("");
    if (behavior === "Isolated" || (behavior === "Contiguous" && match.index !== lastMatchEnd)) pieces.push(match[0]);
    else if (behavior === "Contiguous") pieces[pieces.length - 1] += match[0];
    end = lastMatchEnd = match.index + match[0].length;
  }
  if (end < part.length) pieces.push(part.slice(end));
  return pieces;
}

const identity: Split = (parts) => [...parts];

const withoutEmpty = (parts: readonly Part[]): Part[] => parts.filter(({ text }) => text !== "");

const textsOf = (parts: readonly Part[]): string[] => parts.map(({ text }) => text);

const isAbsent = (value: JsonValue | undefined): value is null | undefined => value === undefined || value === null;

function typed(value: JsonValue | undefined, name: string, fail: Fail): { type: JsonValue | undefined; json: JsonObject } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return fail(`must have an object or null "${name}"`);
  return { type: value["type"], json: value };
}

function textOf(value: JsonValue | undefined, name: string, fail: Fail): string {
  return typeof value === "string" ? value : fail(`must have a string "${name}"`);
}

function listOf(value: JsonValue | undefined, name: string, fail: Fail): JsonValue[] {
  return Array.isArray(value) ? value : fail(`must have a list "${name}"`);
}

type Pattern = Pick<ForeignExpression, "replace" | "matches">;

function literalPattern(literal: string): Pattern {
  const expression = new RegExp(literal.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gu");
  return {
    replace: (text, content) => text.replaceAll(literal, () => content),
    matches: (text) => [...text.matchAll(expression)],
  };
}

/** `{"String": "x"}` or `{"Regex": "x+"}`. */
function patternOf(value: JsonValue | undefined, name: string, fail: Fail): Pattern {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const { String: literal, Regex: expression } = value;
    if (typeof literal === "string" && literal !== "") return literalPattern(literal);
    if (typeof expression === "string") {
      const about = `has the pattern ${JSON.stringify(expression).slice(0, 100)} in "${name}"`;
      try {
        return new ForeignExpression(expression, "gu", ({ length }) =>
          fail(`${about}, which takes too long on a text of ${length} characters: repetitions in repetitions, such as (a+)+, do that`),
        );
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        return fail(`${about}, which is no regular expression here`);
      }
    }
  }
  return fail(`must have {"String": ..} or {"Regex": ..} as "${name}"`);
}
