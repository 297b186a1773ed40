#!/bin/sh
# Runs the tests of the kernels and of the runtime as AArch64 programs on a machine of another kind,
# in QEMU. Where QEMU or Rust's AArch64 libraries cannot be had, a line says so, and that is no failure.
set -eu
cd "$(dirname "$0")/.."

# Its C library and linker come with Rust, so no cross compiler is needed.
target=aarch64-unknown-linux-musl
tools=$PWD/target/neon

skip() {
    printf 'NEON tests skipped: %s\n' "$1"
    exit 0
}

find_qemu() {
    for name in qemu-aarch64-static qemu-aarch64; do
        if "$name" --version >/dev/null 2>&1; then
            qemu=$name
            return
        fi
    done
    return 1
}

# The package is unpacked, not installed: that needs no root, and leaves the system as it was.
fetch_qemu() {
    rm -rf "$tools"
    mkdir -p "$tools/lists/partial" "$tools/cache/archives/partial"
    apt update || return
    for package in qemu-user-static qemu-user; do
        (cd "$tools" && apt download "$package") || continue
        dpkg-deb --fsys-tarfile "$tools"/*.deb |
            tar -x -C "$tools" --strip-components=3 \
                --exclude='*_be*' --wildcards './usr/bin/qemu-aarch64*'
        rm "$tools"/*.deb
        if find_qemu; then
            break
        fi
    done
    rm -rf "$tools/lists" "$tools/cache"
}

apt() {
    timeout 120 apt-get -o Dir::State::Lists="$tools/lists" -o Dir::Cache="$tools/cache" \
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 "$@" >>"$tools/log" 2>&1
}

case $(uname -m) in
aarch64 | arm64) skip 'this is an AArch64 machine, where `make test` runs them' ;;
esac

PATH=$tools:$PATH
find_qemu || fetch_qemu || true
find_qemu || skip "QEMU is missing; install Debian's qemu-user-static or its like"

libraries=$(rustc --print target-libdir --target "$target")
[ -d "$libraries" ] || timeout 120 rustup target add "$target" ||
    skip "Rust's libraries are missing; run \`rustup target add $target\`"
timeout 120 cargo fetch --quiet --locked --target "$target" || skip 'crates are missing'

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER="$qemu"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS='-D warnings'
# An old CPU has the baseline only; the newest has all that is detected at run time, so i8mm, which
# differs from dotprod in products with codes alone.
tests='cargo test --quiet --locked -p lumina-kernels --target'
QEMU_CPU=cortex-a53 $tests "$target" --lib --test simd
QEMU_CPU=neoverse-n1 $tests "$target" --lib --test simd codes
QEMU_CPU=max $tests "$target"
# Programs that a test starts are not emulated, and many random files take long.
tests='cargo test --quiet --locked -p lumina-runtime --lib --test it --target'
PROPTEST_CASES=8 QEMU_CPU=max $tests "$target" -- \
    --skip cli --skip dependencies --skip hostile --skip mutation
