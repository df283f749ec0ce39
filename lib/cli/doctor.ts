/** `usm-lite doctor`: what this installation computes with, and what to do about what is missing. */
import { Command } from "commander";

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("Show what this installation computes with: instruction set, threads, GPU, kernels.")
    .option("--json", "machine-readable output")
    .action(async (options: { json?: boolean }) => {
      const { examine, formatExamination } = await import("../device/examination.js");
      const examination = examine();
      process.stdout.write(options.json ? `${JSON.stringify(examination, null, 2)}\n` : formatExamination(examination));
    });
}
