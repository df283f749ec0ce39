/**
 * Hotwords: phrases that the caller expects. A prefix earns a bonus for every character that goes on matching one, and
 * loses it again when the match breaks off before the phrase is complete. Only whole words match; of overlapping
 * phrases the first counts, of those that begin together the longest.
 */
import { UsmLiteError } from "../errors.js";
import { normalizeLetters, normalizeText } from "../text/normalize.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { PrefixScorer, PrefixState } from "./prefix_scorer.js";

const SPACE = " ";

/** The beginning of a phrase, with a space before every word. */
interface PhrasePrefix {
  readonly text: string;
  readonly children: Map<string, PhrasePrefix>;
  /** A whole phrase, if its last word ends here. */
  complete: boolean;
  /** The longest whole phrase among shorter prefixes that end with a word. */
  readonly completed: PhrasePrefix | undefined;
}

interface Match {
  /** The phrase under way; undefined inside a word that begins none. */
  readonly phrase: PhrasePrefix | undefined;
  /** Characters of the phrases completed before. */
  readonly secured: number;
}

type HotwordState = PrefixState & Match;

/** A hotword as it is looked for; whoever names one calls it a keyword. @throws UsmLiteError INVALID_ARGUMENT when it has no letters */
export function hotwordText(phrase: string): string {
  const text = normalizeText(phrase);
  if (text === "") throw new UsmLiteError("INVALID_ARGUMENT", `the keyword ${JSON.stringify(phrase)} has no letters A-Z`);
  return text;
}

/**
 * Raises the scores of texts that hold phrases which are likely to be said.
 *
 * @example
 * const search = new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { scorers: [new HotwordScorer(["Dedalus"], tokenizer)] });
 */
export class HotwordScorer implements PrefixScorer<HotwordState> {
  private readonly root = phrasePrefix("", undefined);
  private readonly texts: readonly string[];

  /**
   * @param phrases normalized with {@link normalizeText}, as are the pieces of the tokenizer: case, accents and punctuation do not count
   * @param bonus nats for every matched character (the space before a word is one); default 0.5
   * @throws UsmLiteError INVALID_ARGUMENT when a phrase has no letters or the bonus is not a finite number from 0
   */
  constructor(
    phrases: readonly string[],
    tokenizer: Tokenizer,
    private readonly bonus = 0.5,
  ) {
    if (!(bonus >= 0 && Number.isFinite(bonus))) {
      throw new UsmLiteError("INVALID_ARGUMENT", `the hotword bonus must be a number from 0, got ${bonus}`);
    }
    for (const phrase of phrases) this.add(SPACE + hotwordText(phrase));
    this.texts = tokenizer.pieces.map(([piece], id) => (tokenizer.isSpecial(id) ? "" : normalizeLetters(piece)));
  }

  start(): HotwordState {
    return { phrase: this.root, secured: 0, score: 0 };
  }

  extend(state: HotwordState, id: number): HotwordState {
    const text = this.texts[id] as string;
    // The first word has a space before it even where its piece has none.
    const begins = state.phrase === this.root && !text.startsWith(SPACE);
    const match = this.follow(state, begins ? SPACE + text : text);
    return { ...match, score: this.bonus * (match.secured + (match.phrase?.text.length ?? 0)) };
  }

  finish(state: HotwordState): number {
    return this.bonus * this.follow(state, SPACE).secured;
  }

  private add(text: string): void {
    let prefix = this.root;
    for (const character of text) {
      let child = prefix.children.get(character);
      if (!child) {
        const completed = character === SPACE && prefix.complete ? prefix : prefix.completed;
        prefix.children.set(character, (child = phrasePrefix(prefix.text + character, completed)));
      }
      prefix = child;
    }
    prefix.complete = true;
  }

  private follow(match: Match, text: string): Match {
    for (const character of text) match = this.advance(match, character);
    return match;
  }

  private advance({ phrase, secured }: Match, character: string): Match {
    if (!phrase) return character === SPACE ? { phrase: this.root.children.get(SPACE), secured } : { phrase, secured };
    const next = phrase.children.get(character);
    if (next) return { phrase: next, secured };
    // The match breaks off. What follows its completed phrase, or else its first word, is matched anew.
    const heard = phrase.text + character;
    const completed = character === SPACE && phrase.complete ? phrase : phrase.completed;
    const rest = completed ? completed.text.length : heard.indexOf(SPACE, 1);
    if (completed) secured += completed.text.length;
    return rest < 0 ? { phrase: undefined, secured } : this.follow({ phrase: this.root, secured }, heard.slice(rest));
  }
}

const phrasePrefix = (text: string, completed: PhrasePrefix | undefined): PhrasePrefix => ({
  text,
  children: new Map(),
  complete: false,
  completed,
});
