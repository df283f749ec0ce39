/** Finds and loads the compiled addon. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { UsmLiteError } from "../errors.js";

// dist/lib/native -> package root
const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");

/** Of a package that is installed, what its install script did not do; npm and others ask first, or run none. */
const howToBuild = root.includes(`${sep}node_modules${sep}`)
  ? 'run "npm rebuild usm-lite", after "npm install-scripts approve usm-lite" where npm keeps install scripts back'
  : 'run "npm run build:native"';

/** `USMLITE_NATIVE_PATH` names the file; `USMLITE_EMULATE_GPU=1` asks for the one with an emulated GPU, for tests. */
function addonPath(): string {
  const override = process.env["USMLITE_NATIVE_PATH"];
  if (override) return override;
  const emulated = process.env["USMLITE_EMULATE_GPU"] === "1";
  const name = emulated ? "usm_lite_emulator.node" : "usm_lite.node";
  const tried = [`build/Release/${name}`, `build/Debug/${name}`].map((path) => join(root, path));
  const found = tried.find((path) => existsSync(path));
  if (!found) {
    throw new UsmLiteError(
      "FILE_NOT_FOUND",
      `the native addon${emulated ? " with an emulated GPU" : ""} is not built: none of ${tried.join(", ")} exists; ${howToBuild}`,
    );
  }
  return found;
}

/** A wrong setting is an error rather than ignored; the addon checks `USMLITE_ISA` itself. */
function checkThreads(): void {
  const threads = process.env["USMLITE_THREADS"] ?? "";
  const count = Number(threads);
  if (threads === "" || (Number.isInteger(count) && count >= 1 && count <= 256)) return;
  throw new UsmLiteError("INVALID_ARGUMENT", `USMLITE_THREADS is ${JSON.stringify(threads)}; it must be a whole number from 1 to 256`);
}

let loaded: unknown;

/**
 * Loads the addon, once in a thread. What does without it until something is asked of it calls this; the rest imports `addon.ts`.
 * @throws UsmLiteError FILE_NOT_FOUND when it is not built, FILE_UNREADABLE when it does not load, INVALID_ARGUMENT for settings
 */
export function loadAddon(): unknown {
  return (loaded ??= load());
}

function load(): unknown {
  checkThreads();
  const path = addonPath();
  try {
    const addon: unknown = createRequire(import.meta.url)(path);
    (addon as { setErrorConstructor(constructor: typeof UsmLiteError): void }).setErrorConstructor(UsmLiteError);
    return addon;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "INVALID_ARGUMENT") throw new UsmLiteError(code, `USMLITE_ISA: ${message}`, { cause });
    throw new UsmLiteError(
      "FILE_UNREADABLE",
      `the native addon cannot be loaded: ${message.split("\n", 1)[0]}; it must be built on this machine: ${howToBuild}`,
      { cause },
    );
  }
}
