/** `usm-lite pull`: a model from a hub. */
import { Command } from "commander";

interface PullCommandOptions {
  revision: string;
  language?: string;
  endpoint?: string;
  cache?: string;
  offline?: boolean;
}

export function pullCommand(): Command {
  return new Command("pull")
    .description("Download a model, unless it is there, and print its folder. HF_TOKEN holds the token for models that need one.")
    .argument("<model>", "ORG/MODEL on the hub")
    .option("--revision <revision>", "branch, tag or commit", "main")
    .option("--language <code>", "of a model with a file for each language (MMS), such as fra: bring that one too; call again for more")
    .option("--endpoint <url>", "of the hub; HF_ENDPOINT sets the default, otherwise https://huggingface.co")
    .option("--cache <folder>", "where models are kept; USMLITE_CACHE sets the default, otherwise ~/.cache/usm-lite")
    .option("--offline", "ask no server: find what was pulled before")
    .action(async (model: string, options: PullCommandOptions) => {
      const { pullModel } = await import("../hub/pull.js");
      const terminal = process.stderr.isTTY;
      const folder = await pullModel(model, {
        ...options,
        onStatus: (sentence) => console.error(sentence),
        onProgress: (_, bytes, size) => {
          if (terminal && size) process.stderr.write(`\r${((100 * bytes) / size).toFixed(0)} %${bytes >= size ? "\n" : ""}`);
        },
      });
      process.stdout.write(`${folder}\n`);
    });
}
