/**
 * What happens to text before it is cut into pieces: the `normalizer` and `pre_tokenizer` of a `tokenizer.json`, in the
 * form of Hugging Face tokenizers. Only what speech recognition checkpoints use; anything else is refused by name.
 */
import type { JsonObject, JsonValue } from "../checkpoint/json_file.js";
import { ForeignExpression } from "./foreign_expression.js";

/** Stands for the space before a word. */
export const WORD_BEGIN = "\u2581";

/** Text to the parts that pieces do not cross. */
export type TextPipeline = (text: string) => string[];

/** Reports what is wrong with the file, from "has a .." on. */
export type Fail = (problem: string) => never;

type Normalize = (text: string) => string;
type Split = (parts: readonly string[]) => string[];

// What Rust's char::is_whitespace splits at; JavaScript's \s differs at U+0085 and U+FEFF.
const WHITESPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/** Words between white space, each with {@link WORD_BEGIN} before it: `WhitespaceSplit`, then `Metaspace`. */
export const wordPipeline: TextPipeline = (text) => metaspace({ prepend: "always", split: true })(withoutEmpty(text.split(WHITESPACE)));

/** The pipeline of a parsed `tokenizer.json`. */
export function textPipelineOf(json: JsonObject, fail: Fail, defaultSplit: Split = identity): TextPipeline {
  const normalize = normalizerOf(json["normalizer"], fail);
  const preTokenizer = json["pre_tokenizer"];
  const split = isAbsent(preTokenizer) ? defaultSplit : preTokenizerOf(preTokenizer, fail);
  return (text) => withoutEmpty(split(withoutEmpty([normalize(text)])));
}

/** {@link wordPipeline} as a step of another one. */
export const splitWords: Split = (parts) => parts.flatMap(wordPipeline);

function normalizerOf(value: JsonValue | undefined, fail: Fail): Normalize {
  if (isAbsent(value)) return (text) => text;
  const { type, json } = typed(value, "normalizer", fail);
  switch (type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return (text) => text.normalize(type);
    case "Precompiled": // SentencePiece's precompiled map is NFKC with small additions for control characters.
      return (text) => text.normalize("NFKC");
    case "Lowercase":
      return (text) => text.toLowerCase();
    case "Strip":
      return (text) => text.trim();
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

function preTokenizerOf(value: JsonValue | undefined, fail: Fail): Split {
  const { type, json } = typed(value, "pre_tokenizer", fail);
  switch (type) {
    case "WhitespaceSplit":
      return (parts) => withoutEmpty(parts.flatMap((part) => part.split(WHITESPACE)));
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
      return (parts) => parts.flatMap((part) => splitAt(part, pattern, behavior));
    }
    case "Sequence": {
      const steps = listOf(json["pretokenizers"], "pre_tokenizer.pretokenizers", fail).map((step) => preTokenizerOf(step, fail));
      return (parts) => steps.reduce((result: readonly string[], step) => step(result), parts) as string[];
    }
    default:
      return fail(`has a pre_tokenizer of type ${JSON.stringify(type)}; supported are WhitespaceSplit, Metaspace, Split and Sequence`);
  }
}

/** Spaces become {@link WORD_BEGIN}, and one is put before a part that has none; then parts begin at each of them. */
function metaspace({ prepend, split }: { prepend: "always" | "first" | "never"; split: boolean }): Split {
  return (parts) =>
    parts.flatMap((part, index) => {
      const marked = part.replaceAll(" ", WORD_BEGIN);
      const wanted = (prepend === "always" || (prepend === "first" && index === 0)) && !marked.startsWith(WORD_BEGIN);
      const whole = wanted ? WORD_BEGIN + marked : marked;
      return split ? whole.split(new RegExp(`(?=${WORD_BEGIN})`)) : [whole];
    });
}

function splitAt(part: string, pattern: Pattern, behavior: string): string[] {
  const pieces: string[] = [];
  let end = 0;
  let lastMatchEnd = -1;
  for (const match of pattern.matches(part)) {
    if (match[0] === "") continue;
    if (match.index > end) pieces.push(part.slice(end, match.index));
    if (behavior === "Isolated" || (behavior === "Contiguous" && match.index !== lastMatchEnd)) pieces.push(match[0]);
    else if (behavior === "Contiguous") pieces[pieces.length - 1] += match[0];
    end = lastMatchEnd = match.index + match[0].length;
  }
  if (end < part.length) pieces.push(part.slice(end));
  return pieces;
}

const identity: Split = (parts) => [...parts];

const withoutEmpty = (parts: readonly string[]): string[] => parts.filter((part) => part !== "");

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
