/**
 * Trains word n-gram models with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999): every count is
 * lowered by a discount, and what is taken goes to the next shorter context, which counts in how many different
 * contexts a word was seen rather than how often. The share that unigrams leave goes to the spelling model.
 */
import { UsmLiteError } from "../errors.js";
import { normalizeText } from "../text/normalize.js";
import { CODES_PER_NAT, FIRST_WORD, NgramLanguageModel, TEXT_BEGIN, TEXT_END, type NgramTree } from "./ngram_language_model.js";
import { SpellingModel } from "./spelling_model.js";

export interface LanguageModelTrainingOptions {
  /** Longest n-gram, 1 to 6; default 3. */
  readonly order?: number;
  /** N-grams of three and more words seen less often than this are left out; default 1: none. */
  readonly minimumCount?: number;
}

/** An n-gram: its words so far lead here. */
interface Node {
  readonly children: Map<number, Node>;
  /** How often the n-gram was seen. */
  count: number;
  /** How many different words came before it (Kneser-Ney's count of shorter n-grams); 0 where that does not apply. */
  leftContexts: number;
  probability: number;
  backoff: number;
}

/**
 * Learns a language model from transcripts ({@link normalizeText} is applied).
 * @throws UsmLiteError INVALID_ARGUMENT when there is no text or an option is out of range
 *
 * @example
 * writeLanguageModel("model/language_model.bin", trainLanguageModel(readManifest("train.jsonl").map(({ text }) => text)));
 */
export function trainLanguageModel(texts: Iterable<string>, options: LanguageModelTrainingOptions = {}): NgramLanguageModel {
  const { order = 3, minimumCount = 1 } = options;
  if (!Number.isInteger(order) || order < 1 || order > 6) {
    throw new UsmLiteError("INVALID_ARGUMENT", `the order of a language model must be a whole number from 1 to 6, got ${order}`);
  }
  const sentences = Array.from(texts, (text) => normalizeText(text).split(" ").filter(Boolean)).filter(({ length }) => length > 0);
  if (sentences.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", "there are no words to learn a language model from");
  const words = [...new Set(sentences.flat())].sort();
  const ids = new Map(words.map((word, index) => [word, index + FIRST_WORD]));

  const root = newNode();
  root.children.set(TEXT_BEGIN, newNode());
  for (const sentence of sentences) {
    countNgrams(root, [TEXT_BEGIN, ...sentence.map((word) => ids.get(word) as number), TEXT_END], order);
  }
  countLeftContexts(root, [], root);
  const spelling = new SpellingModel(words);
  const baseline = (id: number): number => (id < FIRST_WORD ? 0 : Math.exp(spelling.wordScore(words[id - FIRST_WORD] as string)));
  for (let length = 1; length <= order; length++) estimate(root, length, length === order, baseline, minimumCount);
  return new NgramLanguageModel(treeOf(root, order, words));
}

const newNode = (): Node => ({ children: new Map(), count: 0, leftContexts: 0, probability: 0, backoff: 1 });

function countNgrams(root: Node, ids: readonly number[], order: number): void {
  for (let begin = 0; begin < ids.length; begin++) {
    let node = root;
    for (let end = begin; end < Math.min(ids.length, begin + order); end++) {
      const id = ids[end] as number;
      let child = node.children.get(id);
      if (!child) node.children.set(id, (child = newNode()));
      node = child;
      if (end > 0) node.count++; // the beginning of a text is never predicted
    }
  }
}

// Each distinct n-gram is one left context of the n-gram without its first word.
function countLeftContexts(node: Node, path: readonly number[], root: Node): void {
  for (const [id, child] of node.children) {
    const longer = [...path, id];
    if (longer.length > 1) {
      const suffix = find(root, longer.slice(1));
      if (suffix) suffix.leftContexts++;
    }
    countLeftContexts(child, longer, root);
  }
}

function find(root: Node, path: readonly number[]): Node | undefined {
  let node: Node | undefined = root;
  for (const id of path) node = node?.children.get(id);
  return node;
}

/** Fills in the probabilities of all n-grams of `length` and the back-off shares of their contexts. */
function estimate(root: Node, length: number, longest: boolean, baseline: (id: number) => number, minimumCount: number): void {
  const contexts: [context: Node, path: number[]][] = [];
  const collect = (node: Node, path: number[]): void => {
    if (path.length === length - 1) contexts.push([node, path]);
    else for (const [id, child] of node.children) collect(child, [...path, id]);
  };
  collect(root, []);
  // N-grams at the beginning of a text have nothing before them; for them and the longest, occurrences are counted.
  const countOf = (node: Node, path: readonly number[]): number => (longest || path[0] === TEXT_BEGIN ? node.count : node.leftContexts);

  const frequency = [0, 0, 0, 0, 0];
  for (const [context, path] of contexts) {
    for (const child of context.children.values()) {
      const count = countOf(child, path);
      if (count <= 4) frequency[count] = (frequency[count] as number) + 1;
    }
  }
  const discounts = discountsOf(frequency);
  for (const [context, path] of contexts) {
    let total = 0;
    let left = 0;
    for (const [id, child] of context.children) {
      const count = countOf(child, path);
      total += count;
      const kept = id !== TEXT_BEGIN && (length < 3 || child.count >= minimumCount);
      const discount = kept ? (discounts[Math.min(count, 3)] as number) : count;
      left += discount;
      child.probability = count - discount;
      if (!kept && id !== TEXT_BEGIN) context.children.delete(id);
    }
    if (total === 0) continue;
    context.backoff = left / total;
    for (const [id, child] of context.children) {
      const shorter = path.length === 0 ? baseline(id) : (find(root, [...path.slice(1), id]) as Node).probability;
      child.probability = child.probability / total + context.backoff * shorter;
    }
  }
}

/** D1, D2 and D3+ at indices 1 to 3, from how many n-grams were counted once, twice, three and four times. */
function discountsOf([, once = 0, twice = 0, thrice = 0, four = 0]: readonly number[]): number[] {
  const ratio = once / (once + 2 * twice);
  const discounts = [1 - (2 * ratio * twice) / once, 2 - (3 * ratio * thrice) / twice, 3 - (4 * ratio * four) / thrice];
  // Too little text for the formula: absolute discounts of half the count's step.
  const usable = discounts.every((discount, index) => discount > 0 && discount < index + 1);
  return [0, ...(usable ? discounts : [0.5, 1, 1.5])];
}

function treeOf(root: Node, order: number, words: readonly string[]): NgramTree {
  const word: number[] = [-1];
  const firstChild: number[] = [];
  const nodes: Node[] = [root];
  for (let i = 0; i < nodes.length; i++) {
    firstChild.push(nodes.length);
    for (const [id, child] of [...(nodes[i] as Node).children].sort(([a], [b]) => a - b)) {
      word.push(id);
      nodes.push(child);
    }
  }
  firstChild.push(nodes.length);
  return {
    order,
    words,
    word: Int32Array.from(word),
    firstChild: Int32Array.from(firstChild),
    probability: Uint8Array.from(nodes, ({ probability }) => codeOf(probability)),
    backoff: Uint8Array.from(nodes, ({ backoff }) => codeOf(backoff)),
  };
}

const codeOf = (probability: number): number => Math.min(255, Math.max(0, Math.round(-Math.log(probability) * CODES_PER_NAT)));
