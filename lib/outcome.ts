/** Results of work that is done for several at once, in which something may be wrong with one of them alone. */
import { UsmLiteError } from "./errors.js";

export type Outcome<Output> = Output | UsmLiteError;

/** The outputs where every one counts. @param drop takes them when there is an error, which is thrown */
export function outputsOf<Output>(
  outcomes: readonly Outcome<Output>[],
  drop: (outputs: readonly Output[]) => void = () => undefined,
): Output[] {
  const outputs = outcomes.filter((outcome): outcome is Output => !(outcome instanceof UsmLiteError));
  if (outputs.length === outcomes.length) return outputs;
  drop(outputs);
  throw outcomes.find((outcome) => outcome instanceof UsmLiteError);
}
