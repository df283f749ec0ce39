/** The tree of token sequences that a CTC beam search explores, with what is known about each. */
import { logAdd } from "./log_probabilities.js";
import type { PrefixState } from "./prefix_scorer.js";

/** When the last token of a prefix is emitted on its most probable alignment; `previous` says it for the one before. */
export interface Alignment {
  readonly previous: Alignment | undefined;
  readonly firstFrame: number;
  readonly endFrame: number;
  /** Highest log-probability of the token in these frames. */
  readonly peak: number;
}

/** All alignments that end in one way (in a blank, or in the last token): their total and the best one of them. */
export class PathSum {
  total = -Infinity;
  best = -Infinity;
  alignment: Alignment | undefined = undefined;

  clear(): void {
    this.total = this.best = -Infinity;
    this.alignment = undefined;
  }
}

/** One sequence of tokens. */
export class Prefix {
  // Sums up to the frame before, and those of the frame at hand; swapped after each frame.
  endingInBlank = new PathSum();
  endingInToken = new PathSum();
  nextEndingInBlank = new PathSum();
  nextEndingInToken = new PathSum();
  /** In the beam, so that its sums are valid. */
  active = false;
  /** Natural logarithm of the probability of all its alignments within the beam, up to the frame before. */
  total = -Infinity;
  /** Rank in the beam: `total` plus what the scorer adds. */
  score = -Infinity;
  private children: Prefix[] = [];

  constructor(
    readonly parent: Prefix | undefined,
    readonly id: number,
    readonly state: PrefixState,
  ) {}

  child(id: number): Prefix | undefined {
    for (const child of this.children) if (child.id === id) return child;
    return undefined;
  }

  /** The prefix without tokens, which every search starts from. */
  static empty(blankId: number, state: PrefixState): Prefix {
    const root = new Prefix(undefined, blankId, state);
    root.nextEndingInBlank.total = root.nextEndingInBlank.best = 0;
    root.advance();
    root.activate();
    return root;
  }

  /** Enters the beam (and the tree). */
  activate(): void {
    if (this.parent && !this.parent.children.includes(this)) this.parent.children.push(this);
    this.active = true;
  }

  /** Leaves the beam; forgotten once nothing in the beam descends from it, so memory does not grow with the audio. */
  deactivate(): void {
    this.active = false;
    for (let prefix: Prefix = this; prefix.parent && !prefix.active && prefix.children.length === 0; prefix = prefix.parent) {
      prefix.parent.children.splice(prefix.parent.children.indexOf(prefix), 1);
    }
  }

  /** It begins with `other`, or is it. */
  descendsFrom(other: Prefix): boolean {
    for (let prefix: Prefix | undefined = this; prefix; prefix = prefix.parent) if (prefix === other) return true;
    return false;
  }

  /** The longest sequence that everything in the beam begins with; called on the prefix without tokens. */
  settled(): Prefix {
    let prefix: Prefix = this;
    while (!prefix.active && prefix.children.length === 1) prefix = prefix.children[0] as Prefix;
    return prefix;
  }

  /** Makes the sums of the frame at hand the current ones. */
  advance(): void {
    [this.endingInBlank, this.nextEndingInBlank] = [this.nextEndingInBlank, this.endingInBlank];
    [this.endingInToken, this.nextEndingInToken] = [this.nextEndingInToken, this.endingInToken];
    this.nextEndingInBlank.clear();
    this.nextEndingInToken.clear();
    this.total = logAdd(this.endingInBlank.total, this.endingInToken.total);
    this.score = this.total + this.state.score;
  }

  /** The tokens and, in step with them, when they are emitted on the best alignment. */
  path(): { ids: number[]; alignments: Alignment[] } {
    const ids: number[] = [];
    const alignments: Alignment[] = [];
    const { endingInBlank: blank, endingInToken: token } = this;
    let alignment = blank.best > token.best ? blank.alignment : token.alignment;
    for (let prefix: Prefix = this; prefix.parent && alignment; prefix = prefix.parent, alignment = alignment.previous) {
      ids.push(prefix.id);
      alignments.push(alignment);
    }
    return { ids: ids.reverse(), alignments: alignments.reverse() };
  }
}
