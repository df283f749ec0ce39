/**
 * For scripts beside the command line, which import it before all else: what has a code (a UsmLiteError, an option that does not exist) ends them
 * with one line and exit status 1, 2 for misuse. Anything else keeps its trace.
 */
import { UsmLiteError } from "../errors.js";

process.on("uncaughtException", (error: NodeJS.ErrnoException) => {
  const option = error.code?.startsWith("ERR_PARSE_ARGS") ?? false;
  if (error instanceof UsmLiteError) console.error(`${error.message} [${error.code}]`);
  else if (option) console.error(`${error.message.split(". ")[0]}; the head of the script says what it takes [INVALID_ARGUMENT]`);
  else console.error(error);
  process.exit(option || (error instanceof UsmLiteError && error.code === "INVALID_ARGUMENT") ? 2 : 1);
});
