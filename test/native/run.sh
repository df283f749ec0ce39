#!/usr/bin/env bash
# Builds the packed products, and attention in whole numbers, with AddressSanitizer and runs them over arrays without a byte to spare: AVX2, and where the
# processor has it AVX-512, also with AMX whose tile registers are emulated. Says what it skips, and why.
set -u
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compiler=${CXX:-g++}
# Checks as calls, not inline: unrolled tiles take minutes to compile otherwise.
flags=(-std=c++20 -O1 -w -fsanitize=address --param asan-instrumentation-with-call-threshold=0 -fno-omit-frame-pointer -Inative)
if ! echo 'int main() {}' | "$compiler" -x c++ -fsanitize=address - -o "$folder/probe" 2>/dev/null || ! "$folder/probe"; then
  echo "skipped: $compiler has no AddressSanitizer"
  exit 0
fi
compile() {  # object, source, further flags
  "$compiler" "${flags[@]}" "${@:3}" -c "$2" -o "$folder/$1.o" || touch "$folder/failed"
}
avx2=(-mavx2 -mfma -mf16c -mbmi2)
avx512=("${avx2[@]}" -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vnni)
sources=(native/codec/*.cpp native/core/{allocator,instruction_set,thread_pool}.cpp native/cpu/reference/packed_matmul.cpp
  test/native/packed_products.cpp)
if grep -q avx512_vnni /proc/cpuinfo && grep -q avx512vbmi /proc/cpuinfo; then
  flags+=(-DWITH_AVX512)
  # The emulated tiles copy by memcpy, which AddressSanitizer watches in code that it did not build, too; the rest is that of AVX-512.
  compile packed_avx512 native/cpu/packed_matmul.cpp "${avx512[@]}" -DUSMLITE_ISA=avx512 &
  compile packed_avx512amx native/cpu/packed_matmul.cpp "${avx512[@]}" -DUSMLITE_ISA=avx512amx -DUSMLITE_MATRIX_TILES \
    -fno-sanitize=address -include test/native/emulated_tiles.hpp &
else
  echo "skipped: this processor has no AVX-512; its kernels, and those for AMX, are not checked"
fi
for source in "${sources[@]}"; do
  compile "${source//\//_}" "$source" &
  while [ "$(jobs -rp | wc -l)" -ge "$(($(nproc) + 1))" ]; do wait -n; done
done
compile packed_avx2 native/cpu/packed_matmul.cpp "${avx2[@]}" -DUSMLITE_ISA=avx2 &
compile packed_avx2vnni native/cpu/packed_matmul.cpp "${avx2[@]}" -mavxvnni -DUSMLITE_ISA=avx2vnni &
wait
[ ! -e "$folder/failed" ] && "$compiler" -fsanitize=address "$folder"/*.o -lpthread -o "$folder/packed_products" &&
  "$folder/packed_products" || exit 1

rm "$folder"/*.o
for name in integer_attention integer_relative_attention; do
  compile "$name" "native/cpu/reference/$name.cpp" &
  compile "${name}_avx2" "native/cpu/$name.cpp" "${avx2[@]}" -DUSMLITE_ISA=avx2 &
  [[ " ${flags[*]} " != *" -DWITH_AVX512 "* ]] || compile "${name}_avx512" "native/cpu/$name.cpp" "${avx512[@]}" -DUSMLITE_ISA=avx512 &
  wait
done
compile main test/native/integer_attention.cpp
[ ! -e "$folder/failed" ] && "$compiler" -fsanitize=address "$folder"/*.o -o "$folder/attention" && "$folder/attention"
