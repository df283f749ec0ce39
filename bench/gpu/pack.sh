#!/usr/bin/env bash
# Collects what run.sh needs on a machine with a GPU but without Node.js and without a network: the built package, the
# tests and benchmarks, the packages they import, and Node.js itself.
# usage: bench/gpu/pack.sh FOLDER      after npm run build, on a machine whose build found nvcc
set -euo pipefail
folder=${1:?usage: bench/gpu/pack.sh FOLDER}
root=$(cd "$(dirname "$0")/../.." && pwd)
addon=$root/build/Release/usm_lite.node
[ -f "$addon" ] || { echo "build first: npm run build" >&2; exit 1; }
[ -f "$root/dist/bench/main.js" ] || { echo "compile first: npm run build:typescript" >&2; exit 1; }
mkdir -p "$folder"

# Programs of the emulator's test: each device instruction by itself, and small kernels, right and wrong, that compute-sanitizer's
# racecheck is asked about.
programs="build/Release/device_instructions build/Release/wrong_kernels"
(cd "$root" && rm -f $programs)
if command -v nvcc > /dev/null; then
  program() { nvcc -std=c++20 -O3 -arch=sm_90a -cudart static -I"$root/native" "${@:2}" "$root"/native/cuda/{launch,gpu_properties,runtime,tensor_map}.cu -o "$root/build/Release/$1"; }
  program device_instructions "$root"/test/native/gpu_*.cu
  program wrong_kernels "$root"/test/native/{emulator_misuse,misuse_rings}.cu
else
  echo 'no nvcc: without the parts "instructions" and "rings" of run.sh' >&2
  programs=
fi

# Node.js, stripped and compressed once: it takes a minute or two.
compressed=$root/build/bench/node-$(node --version).xz
if [ ! -f "$compressed" ]; then
  mkdir -p "$root/build/bench"
  strip --strip-all -o "$compressed.binary" "$(readlink -f "$(command -v node)")"
  xz --x86 --lzma2=preset=9e --check=crc32 --stdout "$compressed.binary" > "$compressed.part"
  rm "$compressed.binary"
  mv "$compressed.part" "$compressed"
fi
cp "$compressed" "$folder/node.xz"

# The packages that the library, its tests and benchmarks import; those of the server and of building stay behind.
modules=$(node - "$root" <<'SCRIPT'
const { existsSync, readFileSync } = require("node:fs");
const { dirname, join, relative } = require("node:path");
const root = process.argv[2];
const found = new Set();
function visit(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) {
      if (found.has(candidate)) return;
      found.add(candidate);
      const { dependencies = {} } = JSON.parse(readFileSync(join(candidate, "package.json"), "utf8"));
      for (const next of Object.keys(dependencies)) visit(next, candidate);
      return;
    }
    if (folder === dirname(folder)) throw new Error(`${name} is not installed`);
  }
}
const decoders = ["opus-decoder", "mpg123-decoder", "@wasm-audio-decoders/ogg-vorbis"];
for (const name of ["ava", "yaml", "zod", "commander", "cli-progress", ...decoders]) visit(name, root);
console.log([...found].map((folder) => relative(root, folder)).join("\n"));
SCRIPT
)
# shellcheck disable=SC2086  # one word for each folder and program
tar --create --directory "$root" --sort=name --owner=0 --group=0 \
  --exclude='*.map' --exclude='*.d.ts' --exclude='*.d.cts' --exclude='*.d.mts' --exclude='*.md' --exclude='.tsbuildinfo' --exclude='src' \
  package.json build/Release/usm_lite.node $programs dist bench/peers models/default examples $modules |
  xz -6 --threads=2 --stdout > "$folder/package.tar.xz"
cp "$root/bench/gpu/run.sh" "$folder/run.sh"

bytes=$(du --bytes --summarize "$folder" | cut -f1)
echo "$folder: $((bytes >> 20)) MiB"
[ "$bytes" -le $((48 << 20)) ] || { echo "more than the 48 MiB it may have" >&2; exit 1; }
