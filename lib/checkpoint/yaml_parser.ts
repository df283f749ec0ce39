/** The parser of YAML, loaded with the first document: those who transcribe do not wait for its seventy files. */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export const yamlParser = (): typeof import("yaml") => require("yaml") as typeof import("yaml");
