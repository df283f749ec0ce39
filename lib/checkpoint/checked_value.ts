/** Values from JSON files, checked against a schema; what does not fit is an error that names file and key. */
import type { z } from "zod";
import { UsmLiteError, type UsmLiteErrorCode } from "../errors.js";

/**
 * `value` as `schema` describes it, defaults filled in.
 * @param source name of the file, for error messages
 * @param options.key where in the file `value` lies; absent: it is all of it
 * @param options.hint what to add to an error message
 * @throws UsmLiteError `code`, naming file and key
 */
export function checkedValue<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  { source, code, key, hint }: { source: string; code: UsmLiteErrorCode; key?: string; hint?: string },
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = [...(key ? [key] : []), ...(issue?.path ?? [])].join(".");
  throw new UsmLiteError(code, `${source}: ${path ? `key "${path}": ` : ""}${issue && problemOf(issue)}${hint ? `; ${hint}` : ""}`);
}

/** What is wrong, in words for people who never heard of `undefined`. */
export function problemOf({ message }: Pick<z.core.$ZodIssue, "message">): string {
  const [, expected] = /^Invalid input: expected (\w+), received undefined$/.exec(message) ?? [];
  return expected === undefined ? message : `missing; ${/^[aeiou]/.test(expected) ? "an" : "a"} ${expected} is needed`;
}
