/** The one spelling in which transcripts are trained on and compared. */

/**
 * Upper case A-Z, apostrophe and single spaces. Accents are removed (NFKD), typographic apostrophes become `'`, an
 * apostrophe that touches no letter is dropped, and everything else (punctuation, digits, hyphens) becomes a space. Digits
 * are not spelled out: write them as words in manifests.
 *
 * @example normalizeText("“Don't,” he said – naïvely.") // "DON'T HE SAID NAIVELY"
 */
export function normalizeText(text: string): string {
  return normalizeLetters(text)
    .replace(/(^| )'+(?=[^A-Z]|$)/g, "$1")
    .replace(/''+/g, "'")
    .replace(/ +/g, " ")
    .trim();
}

/** Every letter in the spelling of {@link normalizeText}, and spaces for all else: for parts of texts, which may begin or end anywhere. */
export function normalizeLetters(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toUpperCase()
    .replace(/[\u2018\u2019\u02bc\uff07`]/g, "'")
    .replace(/[^A-Z']+/g, " ");
}
