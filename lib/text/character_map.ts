/**
 * The map of characters that SentencePiece compiles its rules of normalization into (`precompiled_charsmap`): a length in
 * bytes (32 bits, little-endian), a double-array trie of darts-clone in so many bytes, then replacements in UTF-8, each
 * ended by a NUL. The trie takes the UTF-8 bytes of what is replaced to where its replacement begins.
 */

const HEADER_BYTES = 4;
const UNIT_BYTES = 4;

/** A text that begins with something in the map. */
interface Match {
  readonly replacement: string;
  /** How much is replaced. */
  readonly bytes: number;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

export class CharacterMap {
  /** Nodes of the trie: see the functions below for what their bits say. */
  private readonly units: Uint32Array;
  private readonly replacements: Uint8Array;

  /** @throws RangeError when these bytes are no map */
  constructor(bytes: Uint8Array) {
    if (bytes.length < HEADER_BYTES) throw new RangeError(`is no map of characters: it has ${bytes.length} bytes`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const size = view.getUint32(0, true);
    if (size === 0 || size % UNIT_BYTES !== 0 || size > bytes.length - HEADER_BYTES) {
      throw new RangeError(`is no map of characters: a trie of ${size} bytes is said to lie in ${bytes.length - HEADER_BYTES}`);
    }
    this.units = Uint32Array.from({ length: size / UNIT_BYTES }, (_, index) => view.getUint32(HEADER_BYTES + index * UNIT_BYTES, true));
    this.replacements = bytes.subarray(HEADER_BYTES + size);
    try {
      utf8.decode(this.replacements);
    } catch {
      throw new RangeError("is no map of characters: replacements are not UTF-8");
    }
    const isBegin = (at: number): boolean => at < this.replacements.length && (at === 0 || this.replacements[at - 1] === 0);
    const astray = this.units.find((unit) => isValue(unit) && !isBegin(valueOf(unit)));
    if (astray !== undefined) {
      throw new RangeError(`is no map of characters: no replacement begins at byte ${valueOf(astray)} of ${this.replacements.length}`);
    }
  }

  /** As SentencePiece does: from left to right, always the longest that is in the map. */
  replaceLongest(text: string): string {
    const bytes = encoder.encode(text);
    const parts: string[] = [];
    let kept = 0;
    for (let at = 0; at < bytes.length;) {
      const match = this.matches(bytes, at).at(-1);
      if (match) {
        parts.push(utf8.decode(bytes.subarray(kept, at)), match.replacement);
        kept = at += match.bytes;
      } else {
        at += lengthOfCharacter(bytes[at] as number);
      }
    }
    return parts.join("") + utf8.decode(bytes.subarray(kept));
  }

  /**
   * As the `Precompiled` normalizer of Hugging Face tokenizers does, which takes the shortest match, and for the whole of
   * what it looks up: a grapheme of fewer than 6 bytes, and where that has none (or is longer) each of its characters.
   */
  replaceGraphemes(text: string): string {
    const replaced = (part: string | Uint8Array): string | undefined =>
      this.matches(typeof part === "string" ? encoder.encode(part) : part, 0)[0]?.replacement;
    return Array.from(graphemes.segment(text), ({ segment }) => {
      const bytes = encoder.encode(segment);
      const whole = bytes.length < 6 ? replaced(bytes) : undefined;
      return whole ?? Array.from(segment, (character) => replaced(character) ?? character).join("");
    }).join("");
  }

  /** Everything in the map that stands at `begin`, the shortest first. */
  private matches(bytes: Uint8Array, begin: number): Match[] {
    const matches: Match[] = [];
    let node = offsetOf(this.units[0] as number);
    for (let at = begin; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      node ^= byte;
      const unit = this.units[node];
      // A NUL is no text: it would lead to the value of the node itself.
      if (byte === 0 || unit === undefined || labelOf(unit) !== byte) break;
      node ^= offsetOf(unit);
      const value = hasValue(unit) ? this.units[node] : undefined;
      if (value !== undefined && isValue(value)) matches.push({ replacement: this.replacementAt(valueOf(value)), bytes: at + 1 - begin });
    }
    return matches;
  }

  private replacementAt(begin: number): string {
    const end = this.replacements.indexOf(0, begin);
    return utf8.decode(this.replacements.subarray(begin, end < 0 ? undefined : end));
  }
}

// A unit of darts-clone holds a value (bit 31) or leads on: the byte that leads to it (bits 0 to 7), whether a value lies
// where it leads (bit 8), and the distance to there (bits 10 to 30, in units of 256 where bit 9 is set).
const isValue = (unit: number): boolean => unit >>> 31 === 1;
const valueOf = (unit: number): number => unit & 0x7fffffff;
const labelOf = (unit: number): number => (unit & 0x800000ff) >>> 0;
const hasValue = (unit: number): boolean => ((unit >>> 8) & 1) === 1;
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);

/** By the first byte in UTF-8. */
const lengthOfCharacter = (byte: number): number => (byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
