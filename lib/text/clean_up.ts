/** `clean_up_tokenization_spaces` of transformers: no spaces before punctuation and the ends of English contractions. */

const replacements = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
] as const;

/** One replacement after the other, in transformers' order: only spaces are ever taken away. */
export function cleanUp(text: string): string {
  return replacements.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);
}

/** Ends of texts whose space goes when what comes next makes them one of those above; `n '` may become ` n ' t`, and that `n't`. */
const openEnd = / (?:n'?|n '|'[vr]?)?$/;

/** How {@link cleanUp} of a longer text begins, whatever is added to `text`. */
export function cleanUpSoFar(text: string): string {
  return cleanUp(text).replace(openEnd, "");
}
