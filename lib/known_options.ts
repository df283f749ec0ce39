/**
 * Options are checked by name: whoever writes JavaScript is not told by a compiler that `modle` is no option, and would get what the
 * default gives without a word.
 */
import { UsmLiteError } from "./errors.js";

/** Every option of a function. The compiler finds an option that is missing here. */
export type OptionNames<Options> = { readonly [Name in keyof Options]-?: true };

/**
 * @param taker whose options they are, as its caller writes it
 * @throws UsmLiteError INVALID_ARGUMENT for what is no object, and for an option that does not exist
 */
export function checkOptionNames<Options>(taker: string, options: Options, names: OptionNames<Options>): void {
  const known = `it takes ${Object.keys(names).join(", ")}`;
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    const given = options === null ? "null" : Array.isArray(options) ? "an array" : `a ${typeof options}`;
    throw new UsmLiteError("INVALID_ARGUMENT", `${taker} was given ${given} where an object with options belongs; ${known}`);
  }
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(names, name));
  if (unknown === undefined) return;
  throw new UsmLiteError("INVALID_ARGUMENT", `${taker} has no option ${JSON.stringify(unknown.slice(0, 50))}; ${known}`);
}

/** Those of `options` that are options of one function, which may be given no others. */
export function optionsOf<Options extends object>(options: Options, names: OptionNames<Options>): Options {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(names, name))) as Options;
}
