#!/usr/bin/env bash
# Builds the packed products of AVX2 with AddressSanitizer and runs them over arrays without a byte to spare. Skips, with a
# line that says so, where the compiler has no AddressSanitizer.
set -u
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compiler=${CXX:-g++}
flags=(-std=c++20 -O1 -g1 -w -fsanitize=address -fno-omit-frame-pointer -Inative)
if ! echo 'int main() {}' | "$compiler" -x c++ -fsanitize=address - -o "$folder/probe" 2>/dev/null || ! "$folder/probe"; then
  echo "skipped: $compiler has no AddressSanitizer"
  exit 0
fi
compile() {  # object, source, further flags
  "$compiler" "${flags[@]}" "${@:3}" -c "$2" -o "$folder/$1.o" || touch "$folder/failed"
}
avx2=(-mavx2 -mfma -mf16c -mbmi2)
for source in native/codec/*.cpp native/core/{allocator,instruction_set,thread_pool}.cpp native/cpu/reference/packed_matmul.cpp \
  test/native/packed_products.cpp; do
  compile "${source//\//_}" "$source" &
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
done
compile packed_avx2 native/cpu/packed_matmul.cpp "${avx2[@]}" -DUSMLITE_ISA=avx2 &
compile packed_avx2vnni native/cpu/packed_matmul.cpp "${avx2[@]}" -mavxvnni -DUSMLITE_ISA=avx2vnni &
wait
[ ! -e "$folder/failed" ] && "$compiler" -fsanitize=address "$folder"/*.o -lpthread -o "$folder/packed_products" &&
  "$folder/packed_products"
