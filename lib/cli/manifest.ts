/** `usm-lite manifest`: a manifest of a speech corpus in the layout in which it is published. */
import { Command, Option } from "commander";
import { checkWritable } from "../checkpoint/atomic_file.js";
import { corpusNames, type CorpusName, type CorpusPart } from "../data/corpora/corpus.js";

interface ManifestOptions {
  corpus: CorpusName;
  part?: CorpusPart;
  out: string;
}

export function manifestCommand(): Command {
  return new Command("manifest")
    .description("Write the manifest of a speech corpus, for train, compress and evaluate.")
    .argument("<folder>", "folder that the corpus unpacks to")
    .addOption(new Option("--corpus <name>", "kaldi: any folder with text, wav.scp and utt2spk").choices(corpusNames).makeOptionMandatory())
    .addOption(new Option("--part <part>", "part of the official split").choices(["train", "test"]))
    .requiredOption("--out <manifest>", "file to write")
    .action(async (folder: string, { corpus, part, out }: ManifestOptions) => {
      const { readCorpus } = await import("../data/corpora/read_corpus.js");
      const { writeManifest } = await import("../data/manifest.js");
      checkWritable(out);
      const utterances = await readCorpus(corpus, folder, {
        part,
        onProgress: (done, total) => {
          if (!process.stderr.isTTY || (done % 100 !== 0 && done < total)) return;
          process.stderr.write(`\r${done} of ${total} utterances${done < total ? "" : "\n"}`);
        },
      });
      writeManifest(out, utterances);
      const hours = utterances.reduce((sum, { duration }) => sum + duration, 0) / 3600;
      process.stdout.write(`${out}: ${utterances.length} utterances, ${hours.toFixed(2)} hours\n`);
    });
}
